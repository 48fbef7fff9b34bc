"""Minifinetuning: distillation from a teacher corrected toward the label."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from mmkd_jax.numeric import at_least_float32, expected, finite, like, log_softmax, softened, squared
from mmkd_jax.typing import Positive, Share
from mmkd_jax.validation import validated


@validated
def mft(
    student: Float[Array, "*n c"],
    teacher: Float[Array, "*n c"],
    labels: Integer[Array, "*n"],
    *,
    threshold: Share = 0.2,
    temperature: Positive = 1.0,
) -> Float[Array, "*n"]:
    """Minifinetuning (MFT): KL from a teacher corrected toward the label until the label leads by a threshold.

    Formula: T² KL(p̃ ‖ q), p̃ = (1 − m) p + m onehot(y); teacher wrong: m = (p_max − p_y + τ) / (1 + p_max − p_y), so
    that p̃_y − p̃_max = τ; teacher right: p̃_y = min(p_y + τ, 1), 1 if p_y > 1 − τ

    Args:
        student: logits s, [..., c].
        teacher: logits t, [..., c].
        labels: y, [...].
        threshold: lead τ of the label, 0 … 1.
        temperature: T > 0, a scalar or one value per example.

    Returns:
        Values [...], with the factor T². A class at −inf in both is ignored; at −inf in the student only, the value
        is +inf if the corrected teacher gives it probability.

    Compares: logits, labels
    Extra: none
    Source: Belcak et al., Minifinetuning, 2025, https://arxiv.org/abs/2506.15702
    Differs: the authors add 1e-7 to the denominators of m, as is done here

    Example:
        >>> mft(jnp.array([[0.0, 0.0]]), jnp.array([[0.0, 0.0]]), jnp.array([1]), threshold=0.0)
        Array([0.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    p = jnp.exp(log_softmax(softened(teacher, temperature)))
    logq = log_softmax(softened(student, temperature))
    label = jax.nn.one_hot(labels, p.shape[-1], dtype=p.dtype)
    p_label, top = jnp.sum(p * label, -1), jnp.max(p, -1)
    tau = like(threshold, p_label)
    wrong = (top - p_label + tau) / (1 + top - p_label + 1e-7)
    right = (jnp.where(p_label > 1 - tau, 1, p_label + tau) - top) / (1 - top + 1e-7)
    m = jnp.where(jnp.argmax(p, -1) == labels, right, wrong)[..., None]
    corrected = (1 - m) * p + m * label
    logp = jnp.where(corrected > 0, jnp.log(jnp.where(corrected > 0, corrected, 1)), -jnp.inf)
    impossible = jnp.any((corrected > 0) & (logq == -jnp.inf), -1)
    value = expected(corrected, finite(logp) - finite(logq))
    return squared(temperature, student) * jnp.where(impossible, jnp.inf, value)
