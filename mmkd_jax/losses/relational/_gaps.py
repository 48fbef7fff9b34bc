"""Pairwise differences between rows."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def gaps(x: Float[Array, "b d"], others: Float[Array, "n d"]) -> Float[Array, "b n d"]:
    """Pairwise differences x_i − y_j; exactly 0 between rows that are equal up to rounding.

    If the compiler fuses the model into this, it may compute a row twice with different rounding, so that even
    x_i − x_i is not 0. Directions and distances would then be computed from rounding noise.
    """
    gap = x[:, None] - others[None]
    size = jnp.sum(x * x, -1)[:, None] + jnp.sum(others * others, -1)[None]
    noise = (8 * float(jnp.finfo(x.dtype).eps)) ** 2 * size
    return jnp.where((jnp.sum(gap * gap, -1) <= noise)[..., None], 0, gap)
