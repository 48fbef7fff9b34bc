"""Self-supervised distillation."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.number import Positive
from mmkd_jax.losses.numeric import at_least_float32, cross, inner, like, log_softmax, unit


@checked
def seed(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b d"],
    keys: Float[Array, "k d"],
    *,
    temperature: Positive = 0.2,
    teacher_temperature: Positive = 0.01,
) -> Float[Array, " b"]:
    """SEED: cross-entropy of similarity scores over a queue and the row's own teacher embedding.

    Formula: −Σ_k p_k log q_k, p = softmax_k(⟨t, a_k⟩ / τ_t), q = softmax_k(⟨s, a_k⟩ / τ_s), a = (t, the queue); s and t
        have length 1

    Args:
        student: embeddings s, [b, d].
        teacher: embeddings t, [b, d]; for another width connect the student.
        keys: the queue: the teacher's embeddings of k other examples, [k, d].
        temperature: τ_s > 0.
        teacher_temperature: τ_t > 0.

    Returns:
        Values [b]; not 0 for a student equal to its teacher.

    Compares: embeddings, by their similarities to a queue
    Extra: anchors; methods.seed keeps a queue of them
    Source: Fang et al., SEED: Self-supervised Distillation For Visual Representation, 2021,
        https://arxiv.org/abs/2101.04731
    Differs: the authors' code has τ_t = 1e-4 by default, which makes p the row itself and nothing else

    Example:
        >>> x = jnp.array([[1.0, 0.0]])
        >>> [f"{v:.4f}" for v in seed(x, x, jnp.array([[0.0, 1.0]]), temperature=1.0, teacher_temperature=1e-3)]
        ['0.3133']
    """
    student, teacher, keys = at_least_float32(student, teacher, keys)
    student, teacher = unit(student), unit(teacher)

    def similar(x, t):
        own = jnp.sum(x * teacher, -1, keepdims=True)
        return log_softmax(jnp.concatenate([own, inner(x, keys)], 1) / like(t, x[0, 0]))

    return cross(jnp.exp(similar(teacher, teacher_temperature)), similar(student, temperature))
