"""A teacher's largest logits in the place of all of them: records that are small enough to keep, and their KL."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from mmkd_jax.losses.checked import BadInput, checked
from mmkd_jax.losses.number import Positive
from mmkd_jax.losses.numeric import at_least_float32, divergence, log_softmax, softened, squared


class TopK(NamedTuple):
    """What is kept of logits t at the temperature T for which it was made; any other T makes it wrong, unnoticed.

    `kl`, `jsd` and `cross_entropy` take it in the teacher's or the labels' place, also as a plain tuple: in a term
    `teacher=("teacher.values", "teacher.indices", "teacher.lse", "teacher.tail")`. They then compare the k classes and
    one bucket with the rest's mass: the full loss if k = c, else a lower bound of it.

    Attributes:
        values: the k largest logits, [..., k].
        indices: their classes, [..., k].
        lse: log Σ_c exp(t_c / T), [...].
        tail: log of the probability of all other classes, [...]; −inf if there are none.
    """

    values: Float[Array, "*n k"]
    indices: Integer[Array, "*n k"]
    lse: Float[Array, "*n"]
    tail: Float[Array, "*n"]


@checked
def topk(logits: Float[Array, "*n c"], k: int, *, temperature: Positive = 1.0) -> TopK:
    """The record of the k largest logits, for the temperature at which it will be compared.

    Args:
        logits: t, [..., c].
        k: 1 … c.
        temperature: T > 0, a number or one per example.

    Example:
        >>> record = topk(jnp.array([[0.0, 3.0, 1.0]]), 2)
        >>> record.values, record.indices
        (Array([[3., 1.]], dtype=float32), Array([[1, 2]], dtype=int32))
        >>> f"{float(jnp.exp(record.tail[0])):.4f}"  # e⁰ / (e⁰ + e¹ + e³)
        '0.0420'
    """
    if not 0 < k <= logits.shape[-1]:
        raise BadInput(f"topk: k is {k}; expected 1 … {logits.shape[-1]}, the number of classes")
    (logits,) = at_least_float32(logits)
    values, indices = jax.lax.top_k(logits, k)
    z = softened(logits, temperature)
    lse = jax.nn.logsumexp(z, -1)
    return TopK(values, indices, lse, _split(z, indices)[1] - lse)


@checked
def topk_kl(
    student: Float[Array, "*n c"],
    teacher: Float[Array, "*n c"],
    *,
    k: int,
    temperature: Positive = 1.0,
    tail: bool = False,
) -> Float[Array, "*n"]:
    """KD on the teacher's k most likely classes, both sides renormalised on them, or with a bucket for the rest.

    Formula: T² Σ_{c ∈ K} p_c (log p_c − log q_c), p = softmax_K(t / T), q = softmax_K(s / T), K = the k largest t

    Args:
        student: logits s, [..., c].
        teacher: logits t, [..., c].
        k: 1 … c; k = c is `kl`.
        temperature: T > 0, a number or one per example.
        tail: keep the probabilities as they are, and compare what is left of both as one more class: a lower bound of
            `kl`. It is what `kl` gives for a record (`topk`).

    Returns:
        Values [...], with the factor T². A class at −inf in both counts as removed; at −inf in the student only, where
        it is one of the k and the teacher has probability, the value is +inf.

    Compares: logits
    Extra: none
    Source: Shen and Xing, A Fast Knowledge Distillation Framework for Visual Recognition, 2022,
        https://arxiv.org/abs/2112.01528
    Differs: the paper's other form spreads the teacher's rest evenly over all other classes; renormalised, nothing
        holds the student's probability of those classes down

    Example:
        >>> topk_kl(jnp.array([[0.0, 1.0, 9.0]]), jnp.array([[3.0, 4.0, 0.0]]), k=2)
        Array([0.], dtype=float32)
    """
    record = topk(teacher, k, temperature=temperature)
    (known, rest), (picked, others) = _buckets(student, record, temperature)
    if tail:
        logp, logq = _normalised(known, rest), _normalised(picked, others)
    else:
        logp, logq = log_softmax(known), log_softmax(picked)
    return squared(temperature, logq) * divergence(logp, logq)


def log_probabilities(
    student: Float[Array, "*n c"], teacher: Float[Array, "*n c"] | TopK, temperature: Positive
) -> tuple[Float[Array, "*n j"], Float[Array, "*n j"]]:
    """log p of the teacher, log q of the student: over all classes, or over a record's k and a bucket for the rest."""
    if isinstance(teacher, TopK):
        (known, rest), (picked, others) = _buckets(student, teacher, temperature)
        return _normalised(known, rest), _normalised(picked, others)
    student, teacher = at_least_float32(student, teacher)
    return log_softmax(softened(teacher, temperature)), log_softmax(softened(student, temperature))


def _buckets(student, record, temperature):
    """Of teacher and student: the k classes' logits ÷ T, and the log-sum-exp of the rest's."""
    student, values, lse, tail = at_least_float32(student, record.values, record.lse, record.tail)
    return (softened(values, temperature), lse + tail), _split(softened(student, temperature), record.indices)


def _split(z, indices):
    """The logits of some classes; and the log-sum-exp of all others, never from 1 − Σ."""
    indices = indices.astype(jnp.int32)
    rest = jnp.put_along_axis(z, indices, -jnp.inf, -1, inplace=False)
    some = jnp.any(rest > -jnp.inf, -1)
    lse = jax.nn.logsumexp(jnp.where(some[..., None], rest, 0), -1)  # over nothing its gradient would be NaN
    return jnp.take_along_axis(z, indices, -1), jnp.where(some, lse, -jnp.inf)


def _normalised(known, rest):
    return log_softmax(jnp.concatenate([known, rest[..., None]], -1))
