"""Losses between logits; classes are the last axis, every leading axis is kept."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mmkd_jax.losses.number import Number
from mmkd_jax.losses.numeric import at_least_float32, expected, like, log_softmax


def cross_entropy(
    logits: Float[Array, "*n c"], labels: Int[Array, "*n"], *, label_smoothing: Number = 0.0
) -> Float[Array, "*n"]:
    """Cross-entropy with integer labels.

    Formula: −Σ_c q_c log softmax(z)_c, q = (1 − ε) onehot(y) + ε / C

    Args:
        logits: z, [..., c].
        labels: y, [...], 0 … c − 1.
        label_smoothing: ε, 0 … 1.

    Returns:
        Values [...]. Classes at −inf take no part in the smoothing; with the label among them the value is +inf.

    Compares: logits, labels
    Extra: none
    Source: Szegedy et al., Rethinking the Inception Architecture, 2016, https://arxiv.org/abs/1512.00567

    Example:
        >>> cross_entropy(jnp.array([[0.0, 0.0]]), jnp.array([1]))
        Array([0.6931472], dtype=float32)
    """
    (logits,) = at_least_float32(logits)
    logp = log_softmax(logits)
    picked = jnp.take_along_axis(logp, labels[..., None], -1)[..., 0]
    there = logits > -jnp.inf
    classes = jnp.maximum(jnp.sum(there, -1).astype(logp.dtype), 1)
    uniform = jnp.sum(jnp.where(there, jnp.where(there, logp, 0), 0), -1) / classes
    eps = like(label_smoothing, uniform)
    return -((1 - eps) * picked + eps * uniform)


def kl(
    student: Float[Array, "*n c"], teacher: Float[Array, "*n c"], *, temperature: Number = 1.0
) -> Float[Array, "*n"]:
    """Knowledge distillation: KL from the teacher's softened distribution to the student's.

    Formula: T² Σ_c p_c (log p_c − log q_c), p = softmax(t / T), q = softmax(s / T)

    Args:
        student: logits s, [..., c].
        teacher: logits t, [..., c].
        temperature: T > 0, a number or one per example.

    Returns:
        Values [...], with the factor T². A class at −inf in both counts as removed; at −inf in the student only, where
        the teacher has probability, the value is +inf.

    Compares: logits
    Extra: none
    Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015, https://arxiv.org/abs/1503.02531

    Example:
        >>> kl(jnp.array([[0.0, 0.0]]), jnp.array([[0.0, 0.0]]), temperature=4.0)
        Array([0.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    logp, logq = (log_softmax(_softened(x, temperature)) for x in (teacher, student))
    return _square(temperature, student) * _divergence(logp, logq)


def reverse_kl(
    student: Float[Array, "*n c"], teacher: Float[Array, "*n c"], *, temperature: Number = 1.0
) -> Float[Array, "*n"]:
    """KL from the student's softened distribution to the teacher's: it seeks one mode instead of covering all.

    Formula: T² Σ_c q_c (log q_c − log p_c), p = softmax(t / T), q = softmax(s / T)

    Args:
        student: logits s, [..., c].
        teacher: logits t, [..., c].
        temperature: T > 0, a number or one per example.

    Returns:
        Values [...], with the factor T². A class at −inf in both counts as removed; at −inf in the teacher only, where
        the student has probability, the value is +inf.

    Compares: logits
    Extra: none
    Source: Gu et al., MiniLLM, 2024, https://arxiv.org/abs/2306.08543

    Example:
        >>> reverse_kl(jnp.array([[2.0, 0.0]]), jnp.array([[2.0, 0.0]]))
        Array([0.], dtype=float32)
    """
    return kl(teacher, student, temperature=temperature)


def jsd(
    student: Float[Array, "*n c"], teacher: Float[Array, "*n c"], *, beta: Number = 0.5, temperature: Number = 1.0
) -> Float[Array, "*n"]:
    """Generalised Jensen–Shannon divergence.

    Formula: β KL(p ‖ m) + (1 − β) KL(q ‖ m), m = β p + (1 − β) q, p = softmax(t / T), q = softmax(s / T)

    Args:
        student: logits s, [..., c].
        teacher: logits t, [..., c].
        beta: β, 0 … 1. At the ends the value is 0 (divide by β or 1 − β for the limits, which are KL and reverse KL).
        temperature: T > 0, a number or one per example.

    Returns:
        Values [...], without the factor T², as in the paper. A class at −inf in both counts as removed; at −inf in one
        only, the value is finite.

    Compares: logits
    Extra: none
    Source: Agarwal et al., On-Policy Distillation of Language Models (GKD), 2024, https://arxiv.org/abs/2306.13649
    Differs: TRL returns KL at β = 0 and reverse KL at β = 1

    Example:
        >>> jsd(jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 0.0]]))
        Array([0.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    logp, logq = (log_softmax(_softened(x, temperature)) for x in (teacher, student))
    share = like(beta, logp)
    p, q = jnp.exp(logp), jnp.exp(logq)
    # log m relative to the larger of the two, so that small probabilities keep their derivatives
    top = jax.lax.stop_gradient(_finite(jnp.maximum(logp, logq)))
    m = share * jnp.exp(logp - top) + (1 - share) * jnp.exp(logq - top)
    # log(0) where the mixture has no mass never counts: p (or q) is 0 there, too, or its share is
    logm = top + jnp.log(jnp.where(m > 0, m, 1))
    b = like(beta, p[..., 0])
    return b * expected(p, _finite(logp) - logm) + (1 - b) * expected(q, _finite(logq) - logm)


def logit_mse(student: Float[Array, "*n c"], teacher: Float[Array, "*n c"]) -> Float[Array, "*n"]:
    """Mean squared difference of logits.

    Formula: (1 / C) Σ_c (s_c − t_c)²

    Args:
        student: logits s, [..., c].
        teacher: logits t, [..., c].

    Returns:
        Values [...]. Classes at −inf in both count as removed; at −inf in one only, the value is +inf.

    Compares: logits
    Extra: none
    Source: Ba and Caruana, Do Deep Nets Really Need to be Deep?, 2014, https://arxiv.org/abs/1312.6184

    Example:
        >>> logit_mse(jnp.array([[1.0, 3.0]]), jnp.array([[1.0, 1.0]]))
        Array([2.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    gone = (student == -jnp.inf) & (teacher == -jnp.inf)
    gap = jnp.where(gone, 0, student) - jnp.where(gone, 0, teacher)
    return jnp.sum(gap * gap, -1) / jnp.maximum(jnp.sum(~gone, -1).astype(gap.dtype), 1)


def dkd(
    student: Float[Array, "*n c"],
    teacher: Float[Array, "*n c"],
    labels: Int[Array, "*n"],
    *,
    alpha: Number = 1.0,
    beta: Number = 8.0,
    temperature: Number = 4.0,
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
        >>> dkd(jnp.array([[1.0, 0.0, 2.0]]), jnp.array([[1.0, 0.0, 2.0]]), jnp.array([0]))
        Array([0.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    target = jax.nn.one_hot(labels, student.shape[-1], dtype=jnp.bool_)

    def split(x):
        """log p_y, log(1 − p_y), log-probabilities of the rest."""
        rest = jnp.where(target, -jnp.inf, x)
        some = jnp.any(rest > -jnp.inf, -1, keepdims=True)
        lse = jax.nn.logsumexp(jnp.where(some, rest, 0), -1)  # a row without a rest would be NaN
        lse = jnp.where(some[..., 0], lse, -jnp.inf)
        own = jnp.take_along_axis(x, labels[..., None], -1)[..., 0]
        pair = log_softmax(jnp.stack([own, lse], -1))
        return pair, jnp.where(some, log_softmax(jnp.where(some, rest, 0)), -jnp.inf)

    (pair_t, rest_t), (pair_s, rest_s) = (split(_softened(x, temperature)) for x in (teacher, student))
    a, b = like(alpha, pair_t[..., 0]), like(beta, pair_t[..., 0])
    return _square(temperature, student) * (a * _divergence(pair_t, pair_s) + b * _divergence(rest_t, rest_s))


def _softened(x, temperature):
    """x / T; classes at −inf stay there and reach no gradient, not even T's."""
    gone = x == -jnp.inf
    return jnp.where(gone, -jnp.inf, jnp.where(gone, 0, x) / like(temperature, x))


def _square(temperature, x):
    t = like(temperature, x[..., 0])
    return t * t


def _divergence(logp, logq):
    """KL(p ‖ q); +inf where only q is 0, and no NaN."""
    p = jnp.exp(logp)
    value = expected(p, _finite(logp) - _finite(logq))
    impossible = jnp.any((p > 0) & (logq == -jnp.inf), -1)
    return jnp.where(impossible, jnp.inf, value)


def _finite(logp):
    return jnp.where(logp == -jnp.inf, 0, logp)
