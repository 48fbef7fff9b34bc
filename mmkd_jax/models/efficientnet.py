"""EfficientNet-Lite: `(batch, modality, ctx, tap) -> features` [b, d]."""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.modalities import unit
from mmkd_jax.core.model import Batch, StepContext, Taps
from mmkd_jax.models._inputs import masked_input
from mmkd_jax.models.vit import normalized
from mmkd_jax.nn.batch_norm import BatchNorm
from mmkd_jax.nn.conv import Depthwise
from mmkd_jax.nn.conv_norm import ConvNorm

# per stage: number of blocks, kernel size, stride, expansion factor, width
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
    """EfficientNet-Lite: inverted bottlenecks (MBConv) without squeeze-and-excitation.

    Formula: y = BN(W₂ r(BN(D r(BN(W₁ x))))), plus x if the shapes match; r is ReLU6 and D a depthwise convolution

    Outputs: `hidden.M.0`, the output of the stem [b, h, w, c]; `hidden.M.i`, of stage i; `hidden.M.8`, of the head. The
    features are the mean of the head's output over positions.

    Attributes:
        wide: width multiplier of the stages, 1 for Lite0.
        deep: depth multiplier of the stages except the first and the last.
        mean: per-channel mean that images are normalized by, in 0 … 1.
        std: per-channel standard deviation.
        momentum: decay of the BatchNorm running statistics per training step.
        dtype: computation dtype, such as jnp.bfloat16; None is the dtype of the parameters.

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
        """Return the smallest valid batch, for shape inference."""
        return {modality: jnp.zeros((1, 32, 32, 3), jnp.uint8)}

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: StepContext, tap: Taps) -> Float[Array, "b d"]:
        x = normalized(unit(masked_input(batch, modality)[modality]), self.mean, self.std, modality)
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
    """Round to a multiple of 8 that is at least 90% of the width."""
    near = max(8, int(width + 4) // 8 * 8)
    return near if near >= 0.9 * width else near + 8
