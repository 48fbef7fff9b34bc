"""Weighted soft labels."""

import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float, Integer

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.logits.cross_entropy import cross_entropy
from mmkd_jax.losses.number import Positive
from mmkd_jax.losses.numeric import at_least_float32, cross, log_softmax, softened, squared, weighed


@checked
def wsld(
    student: Float[Array, "*n c"],
    teacher: Float[Array, "*n c"],
    labels: Integer[Array, "*n"],
    *,
    temperature: Positive = 2.0,
) -> Float[Array, "*n"]:
    """WSLD: soft labels weigh less in examples that the student already knows better than the teacher.

    Formula: −T² w Σ_c p_c log q_c at T, w = 1 − exp(−ce(s, y) / ce(t, y)) at T = 1

    Args:
        student: logits s, [..., c].
        teacher: logits t, [..., c].
        labels: y, [...].
        temperature: T > 0, a number or one per example.

    Returns:
        Values [...], cross-entropies: not 0 at the teacher. The weight gets no gradient; it is 0 where the
        teacher rules the label out. A class at −inf in both counts
        as removed; at −inf in the student only, where the teacher has probability, the value is +inf.

    Compares: logits, labels
    Extra: none
    Source: Zhou et al., Rethinking Soft Labels for Knowledge Distillation, 2021, https://arxiv.org/abs/2102.00650
    Differs: the authors' code adds 1e-7 to ce(t, y), which this follows

    Example:
        >>> x = jnp.array([[0.0, 0.0]])
        >>> f"{wsld(x, x, jnp.array([1]), temperature=1.0)[0]:.4f}"
        '0.4382'
    """
    student, teacher = at_least_float32(student, teacher)
    own, bound = (stop_gradient(cross_entropy(x, labels)) for x in (student, teacher))
    never = jnp.isinf(bound)  # the teacher rules the label out: the student knows better, or knows it is removed
    weight = 1 - jnp.exp(-jnp.where(never, 0, own) / (jnp.where(never, 0, bound) + 1e-7))
    p, logq = jnp.exp(log_softmax(softened(teacher, temperature))), log_softmax(softened(student, temperature))
    return squared(temperature, student) * weighed(weight, cross(p, logq))
