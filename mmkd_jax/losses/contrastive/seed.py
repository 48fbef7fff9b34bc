"""SEED: self-supervised distillation."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32, cross, inner, like, log_softmax, unit
from mmkd_jax.typing import Positive
from mmkd_jax.validation import validated


@validated
def seed(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b d"],
    keys: Float[Array, "k d"],
    *,
    temperature: Positive = 0.2,
    teacher_temperature: Positive = 0.01,
) -> Float[Array, " b"]:
    """SEED: cross-entropy between similarity distributions over a queue and the row's own teacher embedding.

    Formula: −Σ_k p_k log q_k, p = softmax_k(⟨t, a_k⟩ / τ_t), q = softmax_k(⟨s, a_k⟩ / τ_s), a = (t, the queue); s and t
        L2-normalized

    Args:
        student: embeddings s, [b, d].
        teacher: embeddings t, [b, d]; if the widths differ, add a connector to the student.
        keys: queue of the teacher's embeddings of k other examples, [k, d].
        temperature: τ_s > 0.
        teacher_temperature: τ_t > 0.

    Returns:
        Per-example loss, [b]; not 0 even if the student equals the teacher.

    Compares: embeddings, by their similarities to a queue
    Extra: anchors; `methods.seed` keeps a queue of them
    Source: Fang et al., SEED: Self-supervised Distillation For Visual Representation, 2021,
        https://arxiv.org/abs/2101.04731
    Differs: the authors' code defaults to τ_t = 1e-4, which makes p one-hot at the row itself

    Example:
        >>> x = jnp.array([[1.0, 0.0]])
        >>> [f"{v:.4f}" for v in seed(x, x, jnp.array([[0.0, 1.0]]), temperature=1.0, teacher_temperature=1e-3)]
        ['0.3133']
    """
    student, teacher, keys = at_least_float32(student, teacher, keys)
    student, teacher = unit(student), unit(teacher)

    def similar(x, t):
        positive = jnp.sum(x * teacher, -1, keepdims=True)
        return log_softmax(jnp.concatenate([positive, inner(x, keys)], 1) / like(t, x[0, 0]))

    return cross(jnp.exp(similar(teacher, teacher_temperature)), similar(student, temperature))
