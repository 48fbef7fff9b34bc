"""Mean squared error between logits."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32
from mmkd_jax.validation import validated


@validated
def logit_mse(student: Float[Array, "*n c"], teacher: Float[Array, "*n c"]) -> Float[Array, "*n"]:
    """Mean squared error between logits.

    Formula: (1 / C) Σ_c (s_c − t_c)²

    Args:
        student: logits s, [..., c].
        teacher: logits t, [..., c].

    Returns:
        Values [...]. Classes at −inf in both are ignored; at −inf in one only, the value is +inf.

    Compares: logits
    Extra: none
    Source: Ba and Caruana, Do Deep Nets Really Need to be Deep?, 2014, https://arxiv.org/abs/1312.6184

    Example:
        >>> logit_mse(jnp.array([[1.0, 3.0]]), jnp.array([[1.0, 1.0]]))
        Array([2.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    gone = (student == -jnp.inf) & (teacher == -jnp.inf)
    gap = jnp.where(gone, 0, student) - jnp.where(gone, 0, teacher)
    return jnp.sum(gap * gap, -1) / jnp.maximum(jnp.sum(~gone, -1).astype(gap.dtype), 1)
