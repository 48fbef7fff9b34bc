"""Normalised knowledge distillation."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.logits.target import target_apart
from mmkd_jax.losses.number import Number, Positive
from mmkd_jax.losses.numeric import at_least_float32, cross, like, softened, squared, weighed


@checked
def nkd(
    student: Float[Array, "*n c"],
    teacher: Float[Array, "*n c"],
    labels: Integer[Array, "*n"],
    *,
    gamma: Number = 1.5,
    temperature: Positive = 1.0,
) -> Float[Array, "*n"]:
    """NKD: the target's cross-entropy weighted by the teacher, and that of the others among themselves.

    Formula: −p_y log q_y − γ T² Σ_{c≠y} p̂_c log q̂_c, p, q at T = 1; p̂, q̂ at T, renormalised without class y

    Args:
        student: logits s, [..., c].
        teacher: logits t, [..., c].
        labels: y, [...].
        gamma: γ, weight of the others.
        temperature: T > 0, of the others only; a number or one per example.

    Returns:
        Values [...], cross-entropies: not 0 at the teacher. A class at −inf in both counts as removed; at −inf in the
        student only, where the teacher has probability, the value is +inf.

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
