"""Prime-aware adaptive distillation (PAD)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32, like
from mmkd_jax.typing import Positive
from mmkd_jax.validation import validated


@validated
def pad_l2(
    student: Float[Array, "*n d"],
    teacher: Float[Array, "*n d"],
    log_variance: Float[Array, "*n d"],
    *,
    eps: Positive = 1e-6,
) -> Float[Array, "*n"]:
    """Prime-aware adaptive distillation (PAD): squared error, weighted by the student's predicted uncertainty.

    Formula: (1 / D) Σ_d (s_d − t_d)² / (σ_d² + ε) + log σ_d²

    Args:
        student: features s, [..., d].
        teacher: features t, [..., d].
        log_variance: log σ², [..., d], predicted by a branch of the student.
        eps: ε > 0, added to the variance.

    Returns:
        Loss per vector, [...]; may be negative.

    Compares: features
    Extra: a variance-prediction branch; usually a connector
    Source: Zhang et al., Prime-Aware Adaptive Distillation, 2020, https://arxiv.org/abs/2008.01458
    Differs: ε is from torchdistill; the paper has none

    Example:
        >>> pad_l2(jnp.array([[1.0, 3.0]]), jnp.array([[1.0, 1.0]]), jnp.zeros((1, 2)), eps=1.0)
        Array([1.], dtype=float32)
    """
    student, teacher, log_variance = at_least_float32(student, teacher, log_variance)
    gap = student - teacher
    precision = jnp.exp(-jnp.logaddexp(log_variance, jnp.log(like(eps, log_variance))))
    return jnp.mean(gap * gap * precision + log_variance, -1)
