"""Decoupled knowledge distillation."""

from jaxtyping import Array, Float, Integer

from mmkd_jax.losses.logits._target import target_apart
from mmkd_jax.numeric import at_least_float32, divergence, like, softened, squared, weighed
from mmkd_jax.typing import Positive, Scalar
from mmkd_jax.validation import validated


@validated
def dkd(
    student: Float[Array, "*n c"],
    teacher: Float[Array, "*n c"],
    labels: Integer[Array, "*n"],
    *,
    alpha: Scalar = 1.0,
    beta: Scalar = 8.0,
    temperature: Positive = 4.0,
) -> Float[Array, "*n"]:
    """Decoupled knowledge distillation (DKD): separately weighted KL on the target class and on the other classes.

    Formula: T² (α KL([p_y, 1 − p_y] ‖ [q_y, 1 − q_y]) + β KL(p̂ ‖ q̂)), p̂, q̂ renormalized without class y

    Args:
        student: logits s, [..., c].
        teacher: logits t, [..., c].
        labels: y, [...].
        alpha: α, weight of the target-class term.
        beta: β, weight of the non-target term.
        temperature: T > 0, a scalar or one value per example.

    Returns:
        Values [...], with the factor T². With two classes the non-target term is 0. A class at −inf in both is ignored;
        at −inf in the student only, the value is +inf if the teacher gives it probability.

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
