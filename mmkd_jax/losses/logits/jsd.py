"""Generalized Jensen–Shannon divergence."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.losses.logits.topk import TopK, log_probabilities
from mmkd_jax.numeric import expected, finite, like, log_mixture
from mmkd_jax.typing import Positive, Share
from mmkd_jax.validation import validated


@validated
def jsd(
    student: Float[Array, "*n c"],
    teacher: Float[Array, "*n c"] | TopK,
    *,
    beta: Share = 0.5,
    temperature: Positive = 1.0,
) -> Float[Array, "*n"]:
    """Generalized Jensen–Shannon divergence.

    Formula: β KL(p ‖ m) + (1 − β) KL(q ‖ m), m = β p + (1 − β) q, p = softmax(t / T), q = softmax(s / T)

    Args:
        student: logits s, [..., c].
        teacher: logits t, [..., c], or a `TopK` record computed at this T.
        beta: β, 0 … 1. The value is 0 at both ends; divided by β or 1 − β, it tends to KL or reverse KL.
        temperature: T > 0, a scalar or one value per example.

    Returns:
        Values [...], without the factor T², as in the paper. A class at −inf in both is ignored; at −inf in one only,
        the value is finite.

    Compares: logits
    Extra: none
    Source: Agarwal et al., On-Policy Distillation of Language Models (GKD), 2024, https://arxiv.org/abs/2306.13649
    Differs: TRL returns KL at β = 0 and reverse KL at β = 1

    Example:
        >>> jsd(jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 0.0]]))
        Array([0.], dtype=float32)
    """
    logp, logq = log_probabilities(student, teacher, temperature)
    p, q, logm = jnp.exp(logp), jnp.exp(logq), log_mixture(logp, logq, beta)
    b = like(beta, p[..., 0])
    return b * expected(p, finite(logp) - logm) + (1 - b) * expected(q, finite(logq) - logm)
