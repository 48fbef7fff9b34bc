"""Teacher-bounded regression loss."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32, keep_nan, like
from mmkd_jax.typing import Scalar
from mmkd_jax.validation import validated


@validated
def bounded_regression(
    student: Float[Array, " b *d"],
    teacher: Float[Array, " b *d"],
    targets: Float[Array, " b *d"],
    *,
    margin: Scalar = 0.0,
) -> Float[Array, "b ..."]:
    """Teacher-bounded regression: the student's squared error, or 0 once it beats the teacher's by a margin.

    Formula: ‖s − y‖² where ‖s − y‖² + m > ‖t − y‖², else 0

    Args:
        student: predictions s, [b] or [b, ..., d].
        teacher: predictions t, same shape.
        targets: y, same shape.
        margin: m, in units of the squared error; a scalar or one value per example.

    Returns:
        Values [b] or [b, ...], discontinuous where the student reaches the bound.

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

    student_error = error(student)
    values = jnp.where(student_error + like(margin, student_error) > error(teacher), student_error, 0)
    return keep_nan(values, student, teacher, targets)
