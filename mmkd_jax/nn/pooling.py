"""Masked mean pooling over tokens or frames."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def masked_mean(x: Float[Array, "b n d"], mask: Bool[Array, "b n"] | None) -> Float[Array, "b d"]:
    """Return the masked mean, accumulated in float32; zero if the mask is empty.

    Formula: Σ_i m_i x_i / max(Σ_i m_i, 1)

    Args:
        x: tokens.
        mask: tokens to average; None is all. The others are replaced by zeros, so a NaN there does not propagate.

    Example:
        >>> masked_mean(jnp.array([[[1.0], [3.0], [jnp.nan]]]), jnp.array([[True, True, False]])).tolist()
        [[2.0]]
    """
    if mask is None:
        return x.mean(1, dtype=jnp.float32).astype(x.dtype)
    inside = jnp.where(mask[..., None], x, jnp.zeros((), x.dtype)).sum(1, dtype=jnp.float32)
    return (inside / jnp.maximum(mask.sum(1, keepdims=True), 1).astype(jnp.float32)).astype(x.dtype)
