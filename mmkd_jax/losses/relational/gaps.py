"""Differences of rows."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def gaps(x: Float[Array, "b d"], others: Float[Array, "n d"]) -> Float[Array, "b n d"]:
    """x_i − y_j; exactly 0 between rows that are equal up to rounding.

    A compiler that fuses the model in may compute a row twice and round it differently, so that not even x_i − x_i is
    0: a direction or a distance would be made of that noise.
    """
    gap = x[:, None] - others[None]
    size = jnp.sum(x * x, -1)[:, None] + jnp.sum(others * others, -1)[None]
    noise = (8 * float(jnp.finfo(x.dtype).eps)) ** 2 * size
    return jnp.where((jnp.sum(gap * gap, -1) <= noise)[..., None], 0, gap)
