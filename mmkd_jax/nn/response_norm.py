"""Global response normalization (GRN), which makes channels compete."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


class ResponseNorm(nn.Module):
    """Global response normalization: each channel is weighted by its norm over positions, relative to other channels.

    Formula: y = γ ⊙ x n / (mean(n) + ε) + β + x, with n_c = ‖x_{⋅c}‖₂ over positions

    Norms are computed in float32. γ and β begin at 0, so that the layer begins as the identity.

    Attributes:
        eps: ε, added to the mean norm.

    Source: Woo et al., ConvNeXt V2, 2023, https://arxiv.org/abs/2301.00808
    """

    eps: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        # a map of zeros has a gradient
        squares = jnp.sum(wide**2, (1, 2), keepdims=True)
        norm = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)
        share = (norm / (norm.mean(-1, keepdims=True) + self.eps)).astype(x.dtype)
        scale, bias = (self.param(n, nn.initializers.zeros, x.shape[-1:]) for n in ("scale", "bias"))
        scale, bias = (p.astype(x.dtype).reshape(1, 1, 1, -1) for p in (scale, bias))
        return scale * (x * share) + bias + x
