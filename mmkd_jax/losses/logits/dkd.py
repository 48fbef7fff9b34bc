"""Decoupled knowledge distillation."""

from jaxtyping import Array, Float, Integer

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.logits.target import target_apart
from mmkd_jax.losses.number import Number, Positive
from mmkd_jax.losses.numeric import at_least_float32, divergence, like, softened, squared, weighed


@checked
def dkd(
    student: Float[Array, "*n c"],
    teacher: Float[Array, "*n c"],
    labels: Integer[Array, "*n"],
    *,
    alpha: Number = 1.0,
    beta: Number = 8.0,
    temperature: Positive = 4.0,
) -> Float[Array, "*n"]:
    """Decoupled knowledge distillation: the target's share and the rest's distribution, weighted apart.

    Formula: T² (α KL([p_y, 1 − p_y] ‖ [q_y, 1 − q_y]) + β KL(p̂ ‖ q̂)), p̂, q̂ renormalised without class y

    Args:
        student: logits s, [..., c].
        teacher: logits t, [..., c].
        labels: y, [...].
        alpha: weight of the target part.
        beta: weight of the rest.
        temperature: T > 0, a number or one per example.

    Returns:
        Values [...], with the factor T². With two classes the second part is 0. A class at −inf in both counts as
        removed; at −inf in the student only, where the teacher has probability, the value is +inf.

    Compares: logits, labels
    Extra: none
    Source: Zhao et al., Decoupled Knowledge Distillation, 2022, https://arxiv.org/abs/2203.08679
    Differs: the authors take log(softmax) and mask with −1000, which fails at logit gaps above ~100

    Example:
        >>> import jax.numpy as jnp
        >>> dkd(jnp.array([[1.0, 0.0, 2.0]]), jnp.array([[1.0, 0.0, 2.0]]), jnp.array([0]))
        Array([0.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    (pair_t, rest_t), (pair_s, rest_s) = (target_apart(softened(x, temperature), labels) for x in (teacher, student))
    a, b = like(alpha, pair_t[..., 0]), like(beta, pair_t[..., 0])
    parts = weighed(a, divergence(pair_t, pair_s)) + weighed(b, divergence(rest_t, rest_s))
    return squared(temperature, student) * parts
