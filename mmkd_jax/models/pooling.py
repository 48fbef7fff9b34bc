"""Means over the tokens, or frames, that are there."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def mean_where(x: Float[Array, "b n d"], mask: Bool[Array, "b n"] | None) -> Float[Array, "b d"]:
    """The mean over what is there, summed in float32; zeros where nothing is.

    Formula: Σ_i m_i x_i / max(Σ_i m_i, 1)

    Args:
        x: tokens.
        mask: which are there; all, if None. What is not is replaced: a NaN there is gone.

    Example:
        >>> mean_where(jnp.array([[[1.0], [3.0], [jnp.nan]]]), jnp.array([[True, True, False]])).tolist()
        [[2.0]]
    """
    if mask is None:
        return x.mean(1, dtype=jnp.float32).astype(x.dtype)
    inside = jnp.where(mask[..., None], x, jnp.zeros((), x.dtype)).sum(1, dtype=jnp.float32)
    return (inside / jnp.maximum(mask.sum(1, keepdims=True), 1).astype(jnp.float32)).astype(x.dtype)
