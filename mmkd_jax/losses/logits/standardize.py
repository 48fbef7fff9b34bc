"""Logit standardization, a transform to apply before a logit loss."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32, distance, varying
from mmkd_jax.validation import validated


@validated
def standardize(logits: Float[Array, "*n c"]) -> Float[Array, "*n c"]:
    """Logit standardization: zero mean and unit variance in each row, applied before any logit loss.

    Formula: (z − mean_c z) / (std_c z + 1e-7), std with C − 1 in the denominator

    Args:
        logits: z, [..., c].

    Returns:
        Logits [..., c]. Classes at −inf stay at −inf and are excluded from mean and std; constant rows become 0, with
        gradient 0.

    Compares: logits
    Extra: none; in a term, `connect={"student": losses.standardize, "teacher": losses.standardize}`
    Source: Sun et al., Logit Standardization in Knowledge Distillation, 2024, https://arxiv.org/abs/2403.01427

    Example:
        >>> standardize(jnp.array([[1.0, 3.0, 5.0]]))
        Array([[-1.,  0.,  1.]], dtype=float32)
    """
    (logits,) = at_least_float32(logits)
    present = logits != -jnp.inf
    count = jnp.sum(present, -1, keepdims=True).astype(logits.dtype)
    z = jnp.where(present, logits, 0)
    gap = varying(jnp.where(present, z - jnp.sum(z, -1, keepdims=True) / jnp.maximum(count, 1), 0), z, -1)
    std = distance(jnp.sum(gap * gap, -1, keepdims=True) / jnp.maximum(count - 1, 1))
    spread = std != 0
    return jnp.where(present, jnp.where(spread, gap / (jnp.where(spread, std, 1) + 1e-7), 0), -jnp.inf)
