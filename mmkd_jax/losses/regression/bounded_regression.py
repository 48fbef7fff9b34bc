"""Regression bounded by the teacher."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.number import Number
from mmkd_jax.losses.numeric import at_least_float32, like


@checked
def bounded_regression(
    student: Float[Array, " b *d"],
    teacher: Float[Array, " b *d"],
    targets: Float[Array, " b *d"],
    *,
    margin: Number = 0.0,
) -> Float[Array, "b ..."]:
    """Teacher-bounded regression: the student's squared error, until it is better than the teacher by a margin.

    Formula: ‖s − y‖² where ‖s − y‖² + m > ‖t − y‖², else 0

    Args:
        student: predictions s, [b] or [b, ..., d].
        teacher: predictions t, of the same shape.
        targets: y, of the same shape.
        margin: m, in units of the squared error, a number or one per example.

    Returns:
        Values [b] or [b, ...]; they jump where the teacher's bound is reached.

    Compares: predictions, targets
    Extra: none
    Source: Chen et al., Learning Efficient Object Detection Models with Knowledge Distillation, 2017,
        https://papers.nips.cc/paper/6676-learning-efficient-object-detection-models-with-knowledge-distillation

    Example:
        >>> bounded_regression(jnp.array([2.0, 1.0]), jnp.array([1.0, 2.0]), jnp.zeros(2))
        Array([4., 0.], dtype=float32)
    """
    student, teacher, targets = at_least_float32(student, teacher, targets)

    def error(x):
        square = (x - targets) ** 2
        return jnp.sum(square, -1) if square.ndim > 1 else square

    reached = error(student)
    return jnp.where(reached + like(margin, reached) > error(teacher), reached, 0)
