"""ConvNeXt and ConvNeXt V2: `(batch, modality, ctx, tap) -> features` [b, d]."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.modalities import unit
from mmkd_jax.core.model import Batch, StepContext, Taps
from mmkd_jax.models._inputs import masked_input
from mmkd_jax.models.vit import normalized
from mmkd_jax.nn.activations import activation
from mmkd_jax.nn.conv import Conv, Depthwise
from mmkd_jax.nn.response_norm import ResponseNorm


class ConvNext(nn.Module):
    """ConvNeXt: stages of residual blocks, each a 7 × 7 depthwise convolution and an MLP.

    Formula: x ← x + γ ⊙ W₂ φ(W₁ LN(D x)), with D a 7 × 7 depthwise convolution; in V2, x ← x + W₂ GRN(φ(W₁ LN(D x)))

    Outputs: `hidden.M.0`, the embedded patches [b, h, w, c]; `hidden.M.i`, the output of stage i; `pooled.M`, the
    features, which are the mean of the last stage's output over positions, after a LayerNorm.

    Attributes:
        channels: number of image channels.
        patch: kernel size and stride of the first convolution, px.
        widths: number of channels of each stage.
        depths: number of blocks of each stage.
        activation: φ, a name in `nn.activations`.
        eps: epsilon of the last LayerNorm; the others have 1e-6.
        layer_scale: use the scale γ (LayerScale).
        response_norm: use global response normalization (GRN).
        mean: per-channel mean that images are normalized by, in 0 … 1.
        std: per-channel standard deviation.
        dtype: computation dtype, such as jnp.bfloat16; None is the dtype of the parameters.

    Source: Liu et al., A ConvNet for the 2020s, 2022, https://arxiv.org/abs/2201.03545; Woo et al., ConvNeXt V2,
        2023, https://arxiv.org/abs/2301.00808
    """

    channels: int = 3
    patch: int = 4
    widths: tuple[int, ...] = (96, 192, 384, 768)
    depths: tuple[int, ...] = (3, 3, 9, 3)
    activation: str = "gelu"
    eps: float = 1e-12
    layer_scale: bool = True
    response_norm: bool = False
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    dtype: Any = None

    @nn.nowrap
    def sample(self, modality: str) -> dict[str, Array]:
        """Return the smallest valid batch, for shape inference."""
        side = self.patch * 2 ** len(self.widths)
        return {modality: jnp.zeros((1, side, side, self.channels), jnp.uint8)}

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: StepContext, tap: Taps) -> Float[Array, "b d"]:
        act = activation(self.activation)
        x = normalized(unit(masked_input(batch, modality)[modality]), self.mean, self.std, modality)
        x = x if self.dtype is None else x.astype(self.dtype)

        def norm(name, x, eps=1e-6):
            return nn.LayerNorm(eps, dtype=self.dtype, name=name)(x)

        def dense(name, width, x):
            return nn.Dense(width, dtype=self.dtype, name=name)(x)

        x = Conv(self.widths[0], (self.patch, self.patch), self.patch, "VALID", name="embed")(x)
        x = tap(f"hidden.{modality}.0", norm("norm_embedded", x))
        for i, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True)):
            if i:
                x = Conv(width, (2, 2), 2, "VALID", name=f"down_{i}")(norm(f"norm_{i}", x))
            for j in range(depth):
                name = f"block_{i}_{j}"
                y = norm(f"{name}_norm", Depthwise((7, 7), name=f"{name}_depthwise")(x))
                y = act(dense(f"{name}_grow", 4 * width, y.reshape(-1, width)))
                if self.response_norm:
                    y = ResponseNorm(name=f"{name}_response")(y.reshape(*x.shape[:-1], -1)).reshape(y.shape)
                y = dense(f"{name}_shrink", width, y)
                if self.layer_scale:
                    y = y * self.param(f"{name}_scale", nn.initializers.constant(1e-6), (width,)).astype(y.dtype)[None]
                x = x + y.reshape(x.shape)
            x = tap(f"hidden.{modality}.{i + 1}", x)
        x = norm("norm", x.mean((1, 2), dtype=jnp.float32).astype(x.dtype), self.eps)
        return tap(f"pooled.{modality}", x)
