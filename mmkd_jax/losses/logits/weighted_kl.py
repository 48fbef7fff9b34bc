"""Balanced knowledge distillation (BKD)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32, divergence, log_softmax, softened, squared
from mmkd_jax.typing import Positive
from mmkd_jax.validation import validated


@validated
def weighted_kl(
    student: Float[Array, "*n c"],
    teacher: Float[Array, "*n c"],
    class_weights: Float[Array, " c"],
    *,
    temperature: Positive = 2.0,
) -> Float[Array, "*n"]:
    """Balanced KD (BKD): KL from the teacher's class-reweighted softened distribution, for imbalanced data.

    Formula: T² Σ_c p̃_c (log p̃_c − log q_c), p̃ ∝ w · softmax(t / T), q = softmax(s / T)

    Args:
        student: logits s, [..., c].
        teacher: logits t, [..., c].
        class_weights: w ≥ 0, [c], such as the inverse effective number of examples per class; their scale does not
            matter.
        temperature: T > 0, a scalar or one value per example.

    Returns:
        Values [...], with the factor T². A class at −inf in both is ignored, and weight 0 removes a class from the
        teacher; at −inf in the student only, the value is +inf if the reweighted teacher gives it probability.

    Compares: logits
    Extra: none
    Source: Zhang et al., Balanced Knowledge Distillation for Long-tailed Learning, 2021,
        https://arxiv.org/abs/2104.10510

    Example:
        >>> weighted_kl(jnp.array([[0.0, 0.0]]), jnp.array([[0.0, 0.0]]), jnp.array([1.0, 1.0]))
        Array([0.], dtype=float32)
    """
    student, teacher, class_weights = at_least_float32(student, teacher, class_weights)
    some = ~(class_weights <= 0)  # NaN stays NaN
    log_weights = jnp.where(some, jnp.log(jnp.where(some, class_weights, 1)), -jnp.inf)
    log_weights = log_weights.reshape((1,) * (student.ndim - 1) + (-1,))
    logp = log_softmax(softened(teacher, temperature) + log_weights)
    return squared(temperature, student) * divergence(logp, log_softmax(softened(student, temperature)))
