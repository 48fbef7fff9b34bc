"""CompRess: compression of self-supervised representations."""

from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32, divergence, inner, like, log_softmax, unit
from mmkd_jax.typing import Positive
from mmkd_jax.validation import validated


@validated
def compress(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b e"],
    keys: Float[Array, "k d"],
    teacher_keys: Float[Array, "k e"],
    *,
    temperature: Positive = 0.04,
) -> Float[Array, " b"]:
    """CompRess: KL between distributions of similarities to anchor embeddings of other examples.

    Formula: KL(softmax_k(⟨t / ‖t‖, a_k⟩ / τ) ‖ softmax_k(⟨s / ‖s‖, b_k⟩ / τ)), a_k and b_k the teacher and student
        anchors

    Args:
        student: embeddings s, [b, d].
        teacher: embeddings t, [b, e].
        keys: student anchors, [k, d]: the student's embeddings of k examples, or the teacher's.
        teacher_keys: teacher anchors, [k, e]: the teacher's embeddings of the same examples.
        temperature: τ > 0, for student and teacher.

    Returns:
        Per-example loss, [b].

    Compares: embeddings, by their similarities to anchors
    Extra: anchors; `methods.compress` keeps queues of them
    Source: Koohpayegani et al., CompRess: Self-Supervised Learning by Compressing Representations, 2020,
        https://arxiv.org/abs/2010.14713

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.eye(2)
        >>> compress(x, 2 * x, x, x)
        Array([0., 0.], dtype=float32)
    """
    student, teacher, keys, teacher_keys = at_least_float32(student, teacher, keys, teacher_keys)

    def similar(x, anchors):
        return log_softmax(inner(unit(x), anchors) / like(temperature, x[0, 0]))

    return divergence(similar(teacher, teacher_keys), similar(student, keys))
