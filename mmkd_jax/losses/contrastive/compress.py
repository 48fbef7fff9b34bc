"""Compressing representations."""

from jaxtyping import Array, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.number import Positive
from mmkd_jax.losses.numeric import at_least_float32, divergence, inner, like, log_softmax, unit


@checked
def compress(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b e"],
    keys: Float[Array, "k d"],
    teacher_keys: Float[Array, "k e"],
    *,
    temperature: Positive = 0.04,
) -> Float[Array, " b"]:
    """CompRess: the teacher's similarities to the embeddings of other examples as a distribution.

    Formula: KL(softmax_k(⟨t / ‖t‖, a_k⟩ / τ) ‖ softmax_k(⟨s / ‖s‖, b_k⟩ / τ)), a_k and b_k the anchors of teacher and
        student

    Args:
        student: embeddings s, [b, d].
        teacher: embeddings t, [b, e].
        keys: anchors of the student, [k, d]: its own embeddings of k examples, or the teacher's.
        teacher_keys: anchors of the teacher, [k, e]: its embeddings of the same examples.
        temperature: τ > 0 of both.

    Returns:
        Values [b].

    Compares: embeddings, by their similarities to anchors
    Extra: anchors; methods.compress keeps queues of them
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
