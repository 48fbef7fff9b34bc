"""Weighted soft labels (WSLD)."""

import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float, Integer

from mmkd_jax.losses.logits.cross_entropy import cross_entropy
from mmkd_jax.numeric import at_least_float32, cross, log_softmax, softened, squared, weighed
from mmkd_jax.typing import Positive
from mmkd_jax.validation import validated


@validated
def wsld(
    student: Float[Array, "*n c"],
    teacher: Float[Array, "*n c"],
    labels: Integer[Array, "*n"],
    *,
    temperature: Positive = 2.0,
) -> Float[Array, "*n"]:
    """Weighted soft labels (WSLD): KD with less weight on examples that the student fits better than the teacher.

    Formula: −T² w Σ_c p_c log q_c at T, w = 1 − exp(−ce(s, y) / ce(t, y)) at T = 1

    Args:
        student: logits s, [..., c].
        teacher: logits t, [..., c].
        labels: y, [...].
        temperature: T > 0, a scalar or one value per example.

    Returns:
        Values [...], cross-entropies: not 0 when the student equals the teacher. The weight gets no gradient; it is 0
        where the teacher gives the label zero probability. A class at −inf in both is ignored; at −inf in the student
        only, the value is +inf if the teacher gives it probability.

    Compares: logits, labels
    Extra: none
    Source: Zhou et al., Rethinking Soft Labels for Knowledge Distillation, 2021, https://arxiv.org/abs/2102.00650
    Differs: the authors' code adds 1e-7 to ce(t, y), as is done here

    Example:
        >>> x = jnp.array([[0.0, 0.0]])
        >>> f"{wsld(x, x, jnp.array([1]), temperature=1.0)[0]:.4f}"
        '0.4382'
    """
    student, teacher = at_least_float32(student, teacher)
    student_ce, teacher_ce = (stop_gradient(cross_entropy(x, labels)) for x in (student, teacher))
    # the label is at −inf in the teacher: the student fits it better, or has it at −inf, too
    impossible = jnp.isinf(teacher_ce)
    weight = 1 - jnp.exp(-jnp.where(impossible, 0, student_ce) / (jnp.where(impossible, 0, teacher_ce) + 1e-7))
    p, logq = jnp.exp(log_softmax(softened(teacher, temperature))), log_softmax(softened(student, temperature))
    return squared(temperature, student) * weighed(weight, cross(p, logq))
