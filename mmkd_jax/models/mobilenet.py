"""MobileNet V2: `(batch, modality, ctx, tap) -> features` [b, d]."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.modalities import unit
from mmkd_jax.core.model import Batch, StepContext, Taps
from mmkd_jax.models._inputs import masked_input
from mmkd_jax.models.vit import normalized
from mmkd_jax.nn.activations import activation
from mmkd_jax.nn.batch_norm import BatchNorm
from mmkd_jax.nn.conv import Depthwise
from mmkd_jax.nn.conv_norm import ConvNorm

# width and stride of each block
BLOCKS = ((24, 2), (24, 1), (32, 2), (32, 1), (32, 1), (64, 2), (64, 1), (64, 1), (64, 1), (96, 1), (96, 1), (96, 1))
BLOCKS += ((160, 2), (160, 1), (160, 1), (320, 1))


class MobileNetV2(nn.Module):
    """MobileNet V2: inverted residual blocks.

    Formula: y = BN(W₂ φ(BN(D φ(BN(W₁ x))))), plus x if the shapes match; D is a 3 × 3 depthwise convolution

    Outputs: `hidden.M.0`, the output of the stem [b, h, w, c]; `hidden.M.i`, of block i, 1 … 16; `hidden.M.17`, of the
    head. The features are the mean of the head's output over positions.

    Attributes:
        channels: number of image channels.
        wide: width multiplier.
        divisor: number that divides all widths, to which they are rounded.
        least: smallest width.
        expansion: width of W₁ x, as a multiple of that of x.
        output_stride: factor by which the head's output is smaller than the image, 8, 16 or 32; below 32, depthwise
            convolutions are dilated instead.
        stem_expansion: use W₁ in the stem, too.
        wide_head: do not apply a width multiplier below 1 to the head.
        same: pad as TensorFlow does, so that the output of a stride of 2 depends on whether the side is even; False
            pads with one pixel on each side.
        activation: φ, a name in `nn.activations`.
        eps: epsilon of the BatchNorms.
        mean: per-channel mean that images are normalized by, in 0 … 1.
        std: per-channel standard deviation.
        momentum: decay of the BatchNorm running statistics per training step.
        dtype: computation dtype, such as jnp.bfloat16; None is the dtype of the parameters.

    Source: Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, 2018,
        https://arxiv.org/abs/1801.04381
    """

    channels: int = 3
    wide: float = 1.0
    divisor: int = 8
    least: int = 8
    expansion: float = 6.0
    output_stride: int = 32
    stem_expansion: bool = False
    wide_head: bool = True
    same: bool = True
    activation: str = "relu6"
    eps: float = 1e-3
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    momentum: float = 0.997
    dtype: Any = None

    @nn.nowrap
    def sample(self, modality: str) -> dict[str, Array]:
        """Return the smallest valid batch, for shape inference."""
        return {modality: jnp.zeros((1, 32, 32, self.channels), jnp.uint8)}

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: StepContext, tap: Taps) -> Float[Array, "b d"]:
        act = activation(self.activation)
        x = normalized(unit(masked_input(batch, modality)[modality]), self.mean, self.std, modality)
        x = x if self.dtype is None else x.astype(self.dtype)

        def padding(size, dilation=1):
            return "SAME" if self.same else ((size // 2 * dilation,) * 2,) * 2

        def layer(name, x, width, size=1, stride=1):
            return ConvNorm(width, size, stride, padding(size), self.momentum, self.eps, name=name)(x, ctx)

        def block(name, x, width, inner, stride=1, dilation=1):
            y = act(layer(f"{name}_expand", x, inner)) if inner else x
            depthwise = Depthwise((3, 3), stride, padding(3, dilation), False, dilation, name=f"{name}_depthwise")
            y = act(BatchNorm(self.momentum, self.eps, name=f"{name}_norm")(depthwise(y), ctx))
            return layer(f"{name}_project", y, width)

        first = self._width(32)
        x = act(layer("stem", x, first, 3, 2))
        x = tap(f"hidden.{modality}.0", block("stem", x, self._width(16), first if self.stem_expansion else 0))
        reached, dilation = 2, 1
        for i, (width, stride) in enumerate(BLOCKS):
            dilated, factor = reached == self.output_stride, dilation
            if dilated:  # a stride widens the convolutions of the following blocks instead
                stride, dilation = 1, dilation * stride
            reached = reached * stride
            inner = self._rounded(round(x.shape[-1] * self.expansion))
            y = block(f"block_{i}", x, self._width(width), inner, stride, factor if dilated else 1)
            x = tap(f"hidden.{modality}.{i + 1}", x + y if x.shape == y.shape and stride == 1 else y)
        width = 1280 if self.wide_head and self.wide < 1 else self._width(1280)
        x = tap(f"hidden.{modality}.{len(BLOCKS) + 1}", act(layer("head", x, width)))
        return x.mean((1, 2), dtype=jnp.float32).astype(x.dtype)

    @nn.nowrap
    def _width(self, width):
        return self._rounded(round(width * self.wide))

    @nn.nowrap
    def _rounded(self, width):
        """Round to a multiple of the divisor that is at least 90% of the width."""
        near = max(self.least, int(width + self.divisor / 2) // self.divisor * self.divisor)
        return near if near >= 0.9 * width else near + self.divisor
