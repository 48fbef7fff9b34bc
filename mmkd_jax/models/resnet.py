"""Residual networks: `(batch, modality, ctx, tap) -> features` [b, d]."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.modalities import unit
from mmkd_jax.core.model import Batch, StepContext, Taps
from mmkd_jax.models._inputs import masked_input
from mmkd_jax.models.vit import normalized
from mmkd_jax.nn.activations import activation
from mmkd_jax.nn.conv_norm import ConvNorm


class ResNet(nn.Module):
    """ResNet: stages of residual blocks on an image.

    Formula: x ← φ(x + BN(W₃ r(BN(W₂ r(BN(W₁ x)))))), with 1 × 1 convolutions W₁ and W₃; basic blocks have two 3 × 3
        convolutions

    r is ReLU for any φ, as in transformers.

    Outputs: `hidden.M.0`, the output of the stem [b, h, w, c]; `hidden.M.i`, of stage i; `preactivation.M.i`, the same
    before the last activation. The features are the mean of the last stage's output over positions.

    Attributes:
        channels: number of image channels.
        stem: number of channels of the first convolution.
        widths: number of channels of each stage.
        depths: number of blocks of each stage.
        bottleneck: use bottleneck blocks; False uses basic blocks.
        activation: φ, a name in `nn.activations`.
        halved: downsample in the first stage, too.
        early: downsample in the first convolution of a bottleneck, not in the second.
        mean: per-channel mean that images are normalized by, in 0 … 1.
        std: per-channel standard deviation.
        momentum: decay of the BatchNorm running statistics per training step.
        dtype: computation dtype, such as jnp.bfloat16; None is the dtype of the parameters.

    Source: He et al., Deep Residual Learning for Image Recognition, 2016, https://arxiv.org/abs/1512.03385
    """

    channels: int = 3
    stem: int = 64
    widths: tuple[int, ...] = (256, 512, 1024, 2048)
    depths: tuple[int, ...] = (3, 4, 6, 3)
    bottleneck: bool = True
    activation: str = "relu"
    halved: bool = False
    early: bool = False
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    momentum: float = 0.9
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

        def layer(name, x, width, size, stride=1):
            same = ((size // 2, size // 2),) * 2
            return ConvNorm(width, size, stride, same, self.momentum, name=name)(x, ctx)

        x = act(layer("stem", x, self.stem, 7, 2))
        x = tap(f"hidden.{modality}.0", nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))))
        for i, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True)):
            for j in range(depth):
                stride = 2 if j == 0 and (i or self.halved) else 1
                inner = width // 4 if self.bottleneck else width
                first, second = (stride, 1) if self.early or not self.bottleneck else (1, stride)
                name = f"block_{i}_{j}"
                y = nn.relu(layer(f"{name}_conv_0", x, inner, 1 if self.bottleneck else 3, first))
                y = layer(f"{name}_conv_1", y, inner, 3, second)
                if self.bottleneck:
                    y = layer(f"{name}_conv_2", nn.relu(y), width, 1)
                if stride > 1 or x.shape[-1] != width:
                    x = layer(f"{name}_shortcut", x, width, 1, stride)
                x = x + y
                x = act(tap(f"preactivation.{modality}.{i + 1}", x) if j == depth - 1 else x)
            x = tap(f"hidden.{modality}.{i + 1}", x)
        return x.mean((1, 2), dtype=jnp.float32).astype(x.dtype)
