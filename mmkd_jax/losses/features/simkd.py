"""SimKD: feature matching for a reused teacher classifier."""

from jaxtyping import Array, Float

from mmkd_jax.errors import UserError
from mmkd_jax.losses._pool import average_pool
from mmkd_jax.numeric import at_least_float32, mean_square
from mmkd_jax.validation import validated


@validated
def simkd(student: Float[Array, "b *s c"], teacher: Float[Array, "b *t c"]) -> Float[Array, " b"]:
    """SimKD: mean squared error between the input features of the reused teacher classifier.

    Formula: (1 / D) Σ_i (z_i − P t_i)², P average pooling to the size of the student's map

    `models.simkd` builds the student: its projector outputs z, and the teacher's classifier makes the prediction.

    Args:
        student: projected features z, [b, h, w, c] or [b, c].
        teacher: features t before the teacher's pooling, [b, i, j, c], spatially no smaller than z; or [b, c].

    Returns:
        Per-example loss, [b].

    Compares: features
    Extra: a projector in the student
    Source: Chen et al., Knowledge Distillation with the Reused Teacher Classifier, 2022, https://arxiv.org/abs/2203.14001

    Example:
        >>> import jax.numpy as jnp
        >>> simkd(jnp.ones((1, 2, 2, 3)), 3 * jnp.ones((1, 4, 4, 3)))
        Array([4.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    size, teacher_size = student.shape[1:-1], teacher.shape[1:-1]
    if len(size) != len(teacher_size) or any(s > t for s, t in zip(size, teacher_size, strict=True)):
        raise UserError(
            f"simkd: student map has size {list(size)}, teacher map {list(teacher_size)}; expected a student map no "
            "larger than the teacher's: models.simkd(size=…) pools it before the projection"
        )
    return mean_square(student - average_pool(teacher, size))
