"""KL and reverse KL between the softened distributions of teacher and student."""

from jaxtyping import Array, Float

from mmkd_jax.losses.logits.topk import TopK, log_probabilities
from mmkd_jax.numeric import divergence, squared
from mmkd_jax.typing import Positive
from mmkd_jax.validation import validated


@validated
def kl(
    student: Float[Array, "*n c"], teacher: Float[Array, "*n c"] | TopK, *, temperature: Positive = 1.0
) -> Float[Array, "*n"]:
    """Knowledge distillation (KD): KL divergence from the teacher's softened distribution to the student's.

    Formula: T² Σ_c p_c (log p_c − log q_c), p = softmax(t / T), q = softmax(s / T)

    Args:
        student: logits s, [..., c].
        teacher: logits t, [..., c], or a `TopK` record computed at this T.
        temperature: T > 0, a scalar or one value per example.

    Returns:
        Values [...], with the factor T². A class at −inf in both is ignored; at −inf in the student only, the value is
        +inf if the teacher gives it probability.

    Compares: logits
    Extra: none
    Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015, https://arxiv.org/abs/1503.02531

    Example:
        >>> import jax.numpy as jnp
        >>> kl(jnp.array([[0.0, 0.0]]), jnp.array([[0.0, 0.0]]), temperature=4.0)
        Array([0.], dtype=float32)
    """
    logp, logq = log_probabilities(student, teacher, temperature)
    return squared(temperature, logq) * divergence(logp, logq)


@validated
def reverse_kl(
    student: Float[Array, "*n c"], teacher: Float[Array, "*n c"], *, temperature: Positive = 1.0
) -> Float[Array, "*n"]:
    """Reverse KL, from the student's softened distribution to the teacher's: mode-seeking instead of mode-covering.

    Formula: T² Σ_c q_c (log q_c − log p_c), p = softmax(t / T), q = softmax(s / T)

    Args:
        student: logits s, [..., c].
        teacher: logits t, [..., c].
        temperature: T > 0, a scalar or one value per example.

    Returns:
        Values [...], with the factor T². A class at −inf in both is ignored; at −inf in the teacher only, the value
        is +inf if the student gives it probability.

    Compares: logits
    Extra: none
    Source: Gu et al., MiniLLM, 2024, https://arxiv.org/abs/2306.08543

    Example:
        >>> import jax.numpy as jnp
        >>> reverse_kl(jnp.array([[2.0, 0.0]]), jnp.array([[2.0, 0.0]]))
        Array([0.], dtype=float32)
    """
    return kl(teacher, student, temperature=temperature)
