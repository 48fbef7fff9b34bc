"""ConvNeXt: `(batch, modality, ctx, tap) -> features` [b, d]."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.convolution import Conv, Depthwise
from mmkd_jax.modalities import unit
from mmkd_jax.models.activations import activation
from mmkd_jax.models.inputs import visible
from mmkd_jax.models.vit import normalised
from mmkd_jax.views import Batch, Context, Taps


class ConvNext(nn.Module):
    """Stages of residual blocks, each a wide convolution of single channels and two dense layers.

    Formula: x ← x + γ ⊙ W₂ φ(W₁ LN(D x)), D a convolution of 7 × 7 of each channel by itself

    Outputs: `hidden.M.0`, the embedded patches [b, h, w, c], and `hidden.M.i` those after stage i. The features are the
    mean over places of the last, after a LayerNorm.

    Attributes:
        channels: of the images.
        patch: side of the first convolution, px.
        widths: channels of the stages.
        depths: blocks of the stages.
        activation: φ, a name of `models.activations`.
        eps: of the last LayerNorm; the others have 1e-6.
        scaled: whether there is a γ.
        mean: of each channel, in 0 … 1.
        std: standard deviation of each channel.
        dtype: of the computation, such as jnp.bfloat16; the parameters' own, if None.

    Source: Liu et al., A ConvNet for the 2020s, 2022, https://arxiv.org/abs/2201.03545
    """

    channels: int = 3
    patch: int = 4
    widths: tuple[int, ...] = (96, 192, 384, 768)
    depths: tuple[int, ...] = (3, 3, 9, 3)
    activation: str = "gelu"
    eps: float = 1e-12
    scaled: bool = True
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    dtype: Any = None

    @nn.nowrap
    def sample(self, modality: str) -> dict[str, Array]:
        """The smallest batch, for shapes."""
        side = self.patch * 2 ** len(self.widths)
        return {modality: jnp.zeros((1, side, side, self.channels), jnp.uint8)}

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: Context, tap: Taps) -> Float[Array, "b d"]:
        act = activation(self.activation)
        x = normalised(unit(visible(batch, modality)[modality]), self.mean, self.std, modality)
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
                y = dense(f"{name}_shrink", width, y)
                if self.scaled:
                    y = y * self.param(f"{name}_scale", nn.initializers.constant(1e-6), (width,)).astype(y.dtype)[None]
                x = x + y.reshape(x.shape)
            x = tap(f"hidden.{modality}.{i + 1}", x)
        x = norm("norm", x.mean((1, 2), dtype=jnp.float32).astype(x.dtype), self.eps)
        return tap(f"pooled.{modality}", x)
