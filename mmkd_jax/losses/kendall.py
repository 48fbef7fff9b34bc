"""Kendall's rank correlation."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def kendall(a: Float[Array, "*n c"], b: Float[Array, "*n c"]) -> Float[Array, "*n"]:
    """Kendall's τ-b along the last axis: how alike two rows rank their entries; 0 where one does not rank at all.

    Formula: Σ_{i<j} sign(a_i − a_j) sign(b_i − b_j) / √(n_a n_b), n the pairs that are no ties

    It looks at all c² pairs at once, and has no gradient.

    Example:
        >>> kendall(jnp.array([[1.0, 2.0, 3.0]]), jnp.array([[1.0, 3.0, 2.0]]))
        Array([0.33333334], dtype=float32)
    """

    def order(x):  # by comparison, as −inf and −inf are a tie
        x, y = x[..., :, None], x[..., None, :]
        return (x > y).astype(jnp.int32) - (x < y).astype(jnp.int32)

    p, q = order(a), order(b)
    agree, n, m = (jnp.sum(v, (-2, -1)).astype(jnp.float32) for v in (p * q, p * p, q * q))
    ranked = (n > 0) & (m > 0)
    return jnp.where(ranked, agree / jnp.sqrt(jnp.where(ranked, n * m, 1)), 0)
