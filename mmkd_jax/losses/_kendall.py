"""Kendall's rank correlation."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def kendall(a: Float[Array, "*n c"], b: Float[Array, "*n c"]) -> Float[Array, "*n"]:
    """Kendall's rank correlation τ-b along the last axis; 0 if all entries of a row are tied.

    Formula: Σ_{i<j} sign(a_i − a_j) sign(b_i − b_j) / √(n_a n_b), n the number of pairs without ties

    All c² pairs are compared at once; the result has no gradient.

    Example:
        >>> kendall(jnp.array([[1.0, 2.0, 3.0]]), jnp.array([[1.0, 3.0, 2.0]]))
        Array([0.33333334], dtype=float32)
    """

    def order(x):  # by comparison, so that −inf ties with −inf
        x, y = x[..., :, None], x[..., None, :]
        return (x > y).astype(jnp.int32) - (x < y).astype(jnp.int32)

    p, q = order(a), order(b)
    agree, n, m = (jnp.sum(v, (-2, -1)).astype(jnp.float32) for v in (p * q, p * p, q * q))
    ranked = (n > 0) & (m > 0)
    return jnp.where(ranked, agree / jnp.sqrt(jnp.where(ranked, n * m, 1)), 0)
