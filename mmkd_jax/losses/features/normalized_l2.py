"""Squared L2 distance between normalized features."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32, unit
from mmkd_jax.validation import validated


@validated
def normalized_l2(student: Float[Array, "*n d"], teacher: Float[Array, "*n d"]) -> Float[Array, "*n"]:
    """Patient knowledge distillation (PKD): squared distance between L2-normalized features.

    Formula: ‖s / ‖s‖ − t / ‖t‖‖² = 2 − 2 cos(s, t)

    Args:
        student: features s, [..., d]; in the paper, the first token's hidden states, layer by layer.
        teacher: features t, [..., d].

    Returns:
        Loss per vector, [...]; zero vectors get zero gradient.

    Compares: features
    Extra: usually a connector
    Source: Sun et al., Patient Knowledge Distillation for BERT Model Compression, 2019,
        https://arxiv.org/abs/1908.09355
    Differs: the authors' code averages over d, the paper sums, as here; for several transformer layers at once, see
        patient

    Example:
        >>> normalized_l2(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 2.0]]))
        Array([2.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    gap = unit(student) - unit(teacher)
    return jnp.sum(gap * gap, -1)
