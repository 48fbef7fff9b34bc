"""Top-k teacher logits: records small enough to cache, and the KL divergence computed from them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from mmkd_jax.errors import UserError
from mmkd_jax.numeric import at_least_float32, divergence, log_softmax, softened, squared
from mmkd_jax.typing import Count, Positive
from mmkd_jax.validation import validated


class TopK(NamedTuple):
    """Record of the k largest teacher logits, for one temperature.

    It is valid only at the temperature T that it was computed for; a loss at another T returns wrong values, without an
    error.

    `kl`, `jsd`, `skew_kl` and `cross_entropy` accept it in place of the teacher's logits or the labels, also as a plain
    tuple. In a term: `teacher=("teacher.values", "teacher.indices", "teacher.lse", "teacher.tail")`. They then compare
    the k classes and one bucket with the remaining mass. This is the full loss if k = c, and a lower bound otherwise.

    Attributes:
        values: k largest logits, [..., k].
        indices: their classes, [..., k].
        lse: log Σ_c exp(t_c / T), [...].
        tail: log of the total probability of all other classes, [...]; −inf without other classes.
    """

    values: Float[Array, "*n k"]
    indices: Integer[Array, "*n k"]
    lse: Float[Array, "*n"]
    tail: Float[Array, "*n"]


@validated
def topk(logits: Float[Array, "*n c"], k: int, *, temperature: Positive = 1.0) -> TopK:
    """Compute a `TopK` record of the k largest logits, for the temperature of the loss.

    Args:
        logits: t, [..., c].
        k: number of logits to store, 1 … c.
        temperature: T > 0, a scalar or one value per example.

    Example:
        >>> record = topk(jnp.array([[0.0, 3.0, 1.0]]), 2)
        >>> record.values, record.indices
        (Array([[3., 1.]], dtype=float32), Array([[1, 2]], dtype=int32))
        >>> f"{float(jnp.exp(record.tail[0])):.4f}"  # e⁰ / (e⁰ + e¹ + e³)
        '0.0420'
    """
    if not 0 < k <= logits.shape[-1]:
        raise UserError(f"topk: k is {k}; expected 1 … {logits.shape[-1]}, the number of classes")
    (logits,) = at_least_float32(logits)
    values, indices = jax.lax.top_k(logits, k)
    z = softened(logits, temperature)
    lse = jax.nn.logsumexp(z, -1)
    empty = lse == -jnp.inf
    tail = jnp.where(empty, -jnp.inf, _split(z, indices)[1] - jnp.where(empty, 0, lse))
    return TopK(values, indices, lse, tail)


@validated
def topk_kl(
    student: Float[Array, "*n c"],
    teacher: Float[Array, "*n c"],
    *,
    k: Count,
    temperature: Positive = 1.0,
    tail: bool = False,
) -> Float[Array, "*n"]:
    """KD on the teacher's k most likely classes, renormalized over them or with a bucket for the other classes.

    Formula: T² Σ_{c ∈ K} p_c (log p_c − log q_c), p = softmax_K(t / T), q = softmax_K(s / T), K = the k largest t

    Args:
        student: logits s, [..., c].
        teacher: logits t, [..., c].
        k: number of classes, 1 … c; k = c gives `kl`.
        temperature: T > 0, a scalar or one value per example.
        tail: do not renormalize, and compare the remaining mass of both as one more class: a lower bound of `kl`, the
            same as `kl` with a `topk` record.

    Returns:
        Values [...], with the factor T². A class at −inf in both is ignored; at −inf in the student only, the value is
        +inf if it is one of the k and the teacher gives it probability.

    Compares: logits
    Extra: none
    Source: Shen and Xing, A Fast Knowledge Distillation Framework for Visual Recognition, 2022,
        https://arxiv.org/abs/2112.01528
    Differs: the paper's other variant spreads the teacher's remaining mass evenly over all other classes; with
        renormalization, the student's probability of those classes is not penalized

    Example:
        >>> topk_kl(jnp.array([[0.0, 1.0, 9.0]]), jnp.array([[3.0, 4.0, 0.0]]), k=2)
        Array([0.], dtype=float32)
    """
    record = topk(teacher, k, temperature=temperature)
    (known, rest), (picked, others) = _buckets(student, record, temperature)
    if tail:
        logp, logq = _normalized(known, rest), _normalized(picked, others)
    else:
        logp, logq = log_softmax(known), log_softmax(picked)
    return squared(temperature, logq) * divergence(logp, logq)


def log_probabilities(
    student: Float[Array, "*n c"], teacher: Float[Array, "*n c"] | TopK, temperature: Positive
) -> tuple[Float[Array, "*n j"], Float[Array, "*n j"]]:
    """Return log p (teacher) and log q (student), over all classes or over a record's k classes and a bucket."""
    if isinstance(teacher, TopK):
        (known, rest), (picked, others) = _buckets(student, teacher, temperature)
        return _normalized(known, rest), _normalized(picked, others)
    student, teacher = at_least_float32(student, teacher)
    return log_softmax(softened(teacher, temperature)), log_softmax(softened(student, temperature))


def _buckets(student, record, temperature):
    """For teacher and student, return the logits ÷ T of the k classes and the log-sum-exp of the others."""
    student, values, lse, tail = at_least_float32(student, record.values, record.lse, record.tail)
    return (softened(values, temperature), lse + tail), _split(softened(student, temperature), record.indices)


def _split(z, indices):
    """Return the logits at `indices` and the log-sum-exp of all others, not computed from 1 − Σ."""
    indices = indices.astype(jnp.int32)
    rest = jnp.put_along_axis(z, indices, -jnp.inf, -1, inplace=False)
    has_rest = jnp.any(rest != -jnp.inf, -1)
    lse = jax.nn.logsumexp(jnp.where(has_rest[..., None], rest, 0), -1)  # over an empty set, the gradient would be NaN
    return jnp.take_along_axis(z, indices, -1), jnp.where(has_rest, lse, -jnp.inf)


def _normalized(known, rest):
    return log_softmax(jnp.concatenate([known, rest[..., None]], -1))
