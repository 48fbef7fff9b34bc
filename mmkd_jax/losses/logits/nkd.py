"""Normalized knowledge distillation."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from mmkd_jax.losses.logits._target import target_apart
from mmkd_jax.numeric import at_least_float32, cross, like, softened, squared, weighed
from mmkd_jax.typing import Positive, Scalar
from mmkd_jax.validation import validated


@validated
def nkd(
    student: Float[Array, "*n c"],
    teacher: Float[Array, "*n c"],
    labels: Integer[Array, "*n"],
    *,
    gamma: Scalar = 1.5,
    temperature: Positive = 1.0,
) -> Float[Array, "*n"]:
    """Normalized KD (NKD): teacher-weighted cross-entropy on the target, plus cross-entropy over the other classes.

    Formula: −p_y log q_y − γ T² Σ_{c≠y} p̂_c log q̂_c, p, q at T = 1; p̂, q̂ at T, renormalized without class y

    Args:
        student: logits s, [..., c].
        teacher: logits t, [..., c].
        labels: y, [...].
        gamma: γ, weight of the non-target term.
        temperature: T > 0, used in the non-target term only; a scalar or one value per example.

    Returns:
        Values [...], cross-entropies: not 0 when the student equals the teacher. A class at −inf in both is ignored; at
        −inf in the student only, the value is +inf if the teacher gives it probability.

    Compares: logits, labels
    Extra: none
    Source: Yang et al., From Knowledge Distillation to Self-Knowledge Distillation (NKD), 2023,
        https://arxiv.org/abs/2303.13005

    Example:
        >>> x = jnp.array([[1.0, 0.0, 0.0]])
        >>> f"{nkd(x, x, jnp.array([0]))[0]:.4f}"
        '1.3574'
    """
    student, teacher = at_least_float32(student, teacher)
    (pair_t, _), (pair_s, _) = (target_apart(x, labels) for x in (teacher, student))
    (_, rest_t), (_, rest_s) = (target_apart(softened(x, temperature), labels) for x in (teacher, student))
    target = cross(jnp.exp(pair_t[..., :1]), pair_s[..., :1])
    others = squared(temperature, student) * cross(jnp.exp(rest_t), rest_s)
    return target + weighed(like(gamma, target), others)
