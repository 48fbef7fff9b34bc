"""Residual networks: `(batch, modality, ctx, tap) -> features` [b, d]."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.modalities import unit
from mmkd_jax.models.activations import activation
from mmkd_jax.models.conv_norm import ConvNorm
from mmkd_jax.models.inputs import visible
from mmkd_jax.models.vit import normalised
from mmkd_jax.views import Batch, Context, Taps


class ResNet(nn.Module):
    """Stages of residual blocks on an image.

    Formula: x ← φ(x + BN(W₃ r(BN(W₂ r(BN(W₁ x)))))), with W₁ and W₃ of 1 × 1; or basic, with two of 3 × 3

    r is ReLU whatever φ is: so transformers has it.

    Outputs: `hidden.M.0`, the stem's map [b, h, w, c], and `hidden.M.i` that of stage i; `preactivation.M.i`, the same
    before the last activation. The features are the mean over places of the last.

    Attributes:
        channels: of the images.
        stem: channels of the first convolution.
        widths: channels of the stages.
        depths: blocks of the stages.
        bottleneck: whether blocks are bottlenecks.
        activation: φ, a name of `models.activations`.
        halved: whether the first stage halves the map, too.
        early: whether a bottleneck halves the map in its first convolution.
        mean: of each channel, in 0 … 1.
        std: standard deviation of each channel.
        momentum: share of the running statistics that stays in each step of training.
        dtype: of the computation, such as jnp.bfloat16; the parameters' own, if None.

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
        """The smallest batch, for shapes."""
        return {modality: jnp.zeros((1, 32, 32, self.channels), jnp.uint8)}

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: Context, tap: Taps) -> Float[Array, "b d"]:
        act = activation(self.activation)
        x = normalised(unit(visible(batch, modality)[modality]), self.mean, self.std, modality)
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
