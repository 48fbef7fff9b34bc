"""The angle between features."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.numeric import at_least_float32, unit


@checked
def cosine(student: Float[Array, "*n d"], teacher: Float[Array, "*n d"]) -> Float[Array, "*n"]:
    """One minus the cosine of the angle between features.

    Formula: 1 − ⟨s, t⟩ / (‖s‖ ‖t‖)

    Args:
        student: features s, [..., d].
        teacher: features t, [..., d].

    Returns:
        Values [...]; 1 with gradient 0 where a row is zero.

    Compares: features
    Extra: usually a connector
    Source: Sanh et al., DistilBERT, 2019, https://arxiv.org/abs/1910.01108

    Example:
        >>> cosine(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 2.0]]))
        Array([1.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    return 1 - jnp.sum(unit(student) * unit(teacher), -1)
