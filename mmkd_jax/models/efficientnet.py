"""EfficientNet-Lite: `(batch, modality, ctx, tap) -> features` [b, d]."""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.batch_norm import BatchNorm
from mmkd_jax.convolution import Depthwise
from mmkd_jax.modalities import unit
from mmkd_jax.models.conv_norm import ConvNorm
from mmkd_jax.models.inputs import visible
from mmkd_jax.models.vit import normalised
from mmkd_jax.views import Batch, Context, Taps

# of each stage: blocks, kernel, stride, factor of the inner width, width
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class EfficientNetLite(nn.Module):
    """Inverted bottlenecks on an image, without squeeze and excitation.

    Formula: y = BN(W₂ r(BN(D r(BN(W₁ x))))), and x + y where the map keeps its shape; r is ReLU6, D a convolution of
        each channel by itself

    Outputs: `hidden.M.0`, the stem's map [b, h, w, c], `hidden.M.i` that of stage i, `hidden.M.8` that of the head. The
    features are the mean over places of the last.

    Attributes:
        wide: factor of the stages' widths, 1 for Lite0.
        deep: factor of the stages' blocks, but the first and the last one's.
        mean: of each channel, in 0 … 1.
        std: standard deviation of each channel.
        momentum: share of the running statistics that stays in each step of training.
        dtype: of the computation, such as jnp.bfloat16; the parameters' own, if None.

    Source: Tan and Le, EfficientNet, 2019, https://arxiv.org/abs/1905.11946; the Lite variants of the same authors,
        https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
    """

    wide: float = 1.0
    deep: float = 1.0
    mean: tuple[float, ...] = (127 / 255,) * 3
    std: tuple[float, ...] = (128 / 255,) * 3
    momentum: float = 0.99
    dtype: Any = None

    @nn.nowrap
    def sample(self, modality: str) -> dict[str, Array]:
        """The smallest batch, for shapes."""
        return {modality: jnp.zeros((1, 32, 32, 3), jnp.uint8)}

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: Context, tap: Taps) -> Float[Array, "b d"]:
        x = normalised(unit(visible(batch, modality)[modality]), self.mean, self.std, modality)
        x = x if self.dtype is None else x.astype(self.dtype)

        def layer(name, x, width, size=1, stride=1):
            return ConvNorm(width, size, stride, "SAME", self.momentum, 1e-3, name=name)(x, ctx)

        x, number = tap(f"hidden.{modality}.0", nn.relu6(layer("stem", x, 32, 3, 2))), 0
        for i, (depth, size, first, factor, width) in enumerate(STAGES):
            depth = depth if i in (0, len(STAGES) - 1) else math.ceil(self.deep * depth)
            for j in range(depth):
                name, stride, inner = f"block_{number}", 1 if j else first, factor * x.shape[-1]
                y = nn.relu6(layer(f"{name}_expand", x, inner)) if factor > 1 else x
                y = Depthwise((size, size), stride, "SAME", use_bias=False, name=f"{name}_depthwise")(y)
                y = nn.relu6(BatchNorm(self.momentum, 1e-3, name=f"{name}_norm")(y, ctx))
                y = layer(f"{name}_project", y, _rounded(self.wide * width))
                x, number = x + y if x.shape == y.shape else y, number + 1
            x = tap(f"hidden.{modality}.{i + 1}", x)
        x = tap(f"hidden.{modality}.{len(STAGES) + 1}", nn.relu6(layer("head", x, 1280)))
        return x.mean((1, 2), dtype=jnp.float32).astype(x.dtype)


def _rounded(width):
    """A multiple of 8, and no less than nine tenths."""
    near = max(8, int(width + 4) // 8 * 8)
    return near if near >= 0.9 * width else near + 8
