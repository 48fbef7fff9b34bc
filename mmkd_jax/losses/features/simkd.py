"""The features that a reused classifier reads."""

from jaxtyping import Array, Float

from mmkd_jax.losses.checked import BadInput, checked
from mmkd_jax.losses.numeric import at_least_float32, mean_square
from mmkd_jax.losses.pool import average_pool


@checked
def simkd(student: Float[Array, "b *s c"], teacher: Float[Array, "b *t c"]) -> Float[Array, " b"]:
    """SimKD: mean squared difference of the features that the teacher's classifier, reused by the student, reads.

    Formula: (1 / D) Σ_i (z_i − P t_i)², P the average pool to the size of the student's map

    `models.simkd` makes the student: its projector gives z, and it answers through the teacher's classifier.

    Args:
        student: projected features z, [b, h, w, c] or [b, c].
        teacher: features t before the teacher's pooling, [b, i, j, c], no smaller than z; or [b, c].

    Returns:
        Values [b].

    Compares: features
    Extra: a projector in the student
    Source: Chen et al., Knowledge Distillation with the Reused Teacher Classifier, 2022, https://arxiv.org/abs/2203.14001

    Example:
        >>> import jax.numpy as jnp
        >>> simkd(jnp.ones((1, 2, 2, 3)), 3 * jnp.ones((1, 4, 4, 3)))
        Array([4.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    places, whole = student.shape[1:-1], teacher.shape[1:-1]
    if len(places) != len(whole) or any(s > t for s, t in zip(places, whole, strict=True)):
        raise BadInput(
            f"simkd: student has places {list(places)}, teacher {list(whole)}; expected a student's map no larger than "
            "the teacher's: models.simkd(size=…) pools it before it is projected"
        )
    return mean_square(student - average_pool(teacher, places))
