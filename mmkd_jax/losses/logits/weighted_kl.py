"""Balanced knowledge distillation."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.number import Positive
from mmkd_jax.losses.numeric import at_least_float32, divergence, log_softmax, softened, squared


@checked
def weighted_kl(
    student: Float[Array, "*n c"],
    teacher: Float[Array, "*n c"],
    class_weights: Float[Array, " c"],
    *,
    temperature: Positive = 2.0,
) -> Float[Array, "*n"]:
    """BKD: KL from the teacher's softened distribution, reweighted by class, for imbalanced labels.

    Formula: T² Σ_c p̃_c (log p̃_c − log q_c), p̃ ∝ w · softmax(t / T), q = softmax(s / T)

    Args:
        student: logits s, [..., c].
        teacher: logits t, [..., c].
        class_weights: w ≥ 0, [c], such as the inverse effective numbers of examples; their scale does not matter.
        temperature: T > 0, a number or one per example.

    Returns:
        Values [...], with the factor T². A class at −inf in both counts as removed, one of weight 0 as removed from the
        teacher; at −inf in the student only, where the teacher has probability, the value is +inf.

    Compares: logits
    Extra: none
    Source: Zhang et al., Balanced Knowledge Distillation for Long-tailed Learning, 2021,
        https://arxiv.org/abs/2104.10510

    Example:
        >>> weighted_kl(jnp.array([[0.0, 0.0]]), jnp.array([[0.0, 0.0]]), jnp.array([1.0, 1.0]))
        Array([0.], dtype=float32)
    """
    student, teacher, class_weights = at_least_float32(student, teacher, class_weights)
    some = class_weights > 0
    log_weights = jnp.where(some, jnp.log(jnp.where(some, class_weights, 1)), -jnp.inf)
    log_weights = log_weights.reshape((1,) * (student.ndim - 1) + (-1,))
    logp = log_softmax(softened(teacher, temperature) + log_weights)
    return squared(temperature, student) * divergence(logp, log_softmax(softened(student, temperature)))
