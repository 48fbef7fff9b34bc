"""Cosine distance between features."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32, unit
from mmkd_jax.validation import validated


@validated
def cosine(student: Float[Array, "*n d"], teacher: Float[Array, "*n d"]) -> Float[Array, "*n"]:
    """Cosine distance: one minus the cosine similarity of features.

    Formula: 1 − ⟨s, t⟩ / (‖s‖ ‖t‖)

    Args:
        student: features s, [..., d].
        teacher: features t, [..., d].

    Returns:
        Loss per vector, [...]; 1, with zero gradient, if either vector is zero.

    Compares: features
    Extra: usually a connector
    Source: Sanh et al., DistilBERT, 2019, https://arxiv.org/abs/1910.01108

    Example:
        >>> cosine(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 2.0]]))
        Array([1.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    return 1 - jnp.sum(unit(student) * unit(teacher), -1)
