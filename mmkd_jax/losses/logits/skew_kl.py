"""Skew KL divergence (DistiLLM)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.losses.logits.topk import TopK, log_probabilities
from mmkd_jax.numeric import expected, finite, log_mixture
from mmkd_jax.typing import Positive, Share
from mmkd_jax.validation import validated


@validated
def skew_kl(
    student: Float[Array, "*n c"],
    teacher: Float[Array, "*n c"] | TopK,
    *,
    alpha: Share = 0.1,
    temperature: Positive = 1.0,
) -> Float[Array, "*n"]:
    """Skew KL (DistiLLM): KL from the teacher to a teacher–student mixture, with bounded gradients where q is small.

    Formula: Σ_c p_c (log p_c − log m_c), m = α p + (1 − α) q, p = softmax(t / T), q = softmax(s / T)

    Args:
        student: logits s, [..., c].
        teacher: logits t, [..., c], or a `TopK` record computed at this T.
        alpha: α, 0 … 1; α → 0 gives `kl` without T². With the arguments swapped it is the skew reverse KL.
        temperature: T > 0, a scalar or one value per example.

    Returns:
        Values [...], without the factor T², as in the paper. A class at −inf in both is ignored; at −inf in one only,
        the value is finite.

    Compares: logits
    Extra: none
    Source: Ko et al., DistiLLM: Towards Streamlined Distillation for Large Language Models, 2024,
        https://arxiv.org/abs/2402.03898

    Example:
        >>> skew_kl(jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 0.0]]))
        Array([0.], dtype=float32)
    """
    logp, logq = log_probabilities(student, teacher, temperature)
    return expected(jnp.exp(logp), finite(logp) - log_mixture(logp, logq, alpha))
