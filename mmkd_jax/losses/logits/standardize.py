"""Logit standardisation: a transform that goes before any loss of logits."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.numeric import at_least_float32, distance, varying


@checked
def standardize(logits: Float[Array, "*n c"]) -> Float[Array, "*n c"]:
    """Logit standardisation: only the shape of the logits counts, not their mean and spread; goes before any loss.

    Formula: (z − mean_c z) / (std_c z + 1e-7), std with C − 1

    Args:
        logits: z, [..., c].

    Returns:
        Logits [..., c]. Classes at −inf stay there and take no part in mean and spread; rows without a spread become 0
        with gradient 0.

    Compares: logits
    Extra: none; `connect={"student": losses.standardize, "teacher": losses.standardize}` in a term
    Source: Sun et al., Logit Standardization in Knowledge Distillation, 2024, https://arxiv.org/abs/2403.01427

    Example:
        >>> standardize(jnp.array([[1.0, 3.0, 5.0]]))
        Array([[-1.,  0.,  1.]], dtype=float32)
    """
    (logits,) = at_least_float32(logits)
    there = logits > -jnp.inf
    count = jnp.sum(there, -1, keepdims=True).astype(logits.dtype)
    z = jnp.where(there, logits, 0)
    gap = varying(jnp.where(there, z - jnp.sum(z, -1, keepdims=True) / jnp.maximum(count, 1), 0), z, -1)
    std = distance(jnp.sum(gap * gap, -1, keepdims=True) / jnp.maximum(count - 1, 1))
    spread = std > 0
    return jnp.where(there, jnp.where(spread, gap / (jnp.where(spread, std, 1) + 1e-7), 0), -jnp.inf)
