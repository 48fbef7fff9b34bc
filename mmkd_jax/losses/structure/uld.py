"""Distillation between models that do not share a vocabulary."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.number import Positive
from mmkd_jax.losses.numeric import at_least_float32, log_softmax, softened


@checked
def uld(
    student: Float[Array, "b l c"],
    teacher: Float[Array, "b m v"],
    *,
    mask: Bool[Array, "b l"] | None = None,
    teacher_mask: Bool[Array, "b m"] | None = None,
    temperature: Positive = 1.0,
) -> Float[Array, " b"]:
    """Universal logit distillation (ULD): the sorted probabilities of two models with vocabularies of their own.

    Formula: mean_i Σ_k |p_i(k) − q_i(k)|, p_i(k) the k-th largest of softmax(t_i / T), q_i(k) likewise of s; the
        smaller vocabulary is filled with zeros

    The i-th token under the student's mask stands beside the i-th under the teacher's, as long as both have one: masks
    of the answers let them begin at unlike places. Logits that foretell the next token have its place minus one.

    Args:
        student: logits s, [b, l, c].
        teacher: logits t, [b, m, v].
        mask: the student's tokens that count; None is all.
        teacher_mask: the teacher's tokens that count; None is all.
        temperature: T > 0, a number or one per example.

    Returns:
        Values [b], 0 … 2, without the factor T²; 0 where one of the two has no token. A class at −inf has the
        probability 0: it is as if it were not in the vocabulary.

    Compares: logits of texts, the vocabularies may differ
    Extra: none
    Source: Boizard et al., Towards Cross-Tokenizer Distillation: the Universal Logit Distillation Loss for LLMs, 2024,
        https://arxiv.org/abs/2402.12030

    Example:
        >>> student, teacher = jnp.log(jnp.array([[[0.25, 0.75]]])), jnp.log(jnp.array([[[0.5, 0.25, 0.25]]]))
        >>> uld(student, teacher).round(4)
        Array([0.5], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    length, width = (max(student.shape[i], teacher.shape[i]) for i in (1, 2))
    sides = []
    for logits, there in ((student, mask), (teacher, teacher_mask)):
        p = jnp.flip(jnp.sort(jnp.exp(log_softmax(softened(logits, temperature))), -1), -1)
        there = jnp.ones(p.shape[:2], bool) if there is None else there
        first = jnp.argsort(~there, 1, stable=True)  # the tokens that count come first, in their order
        p, there = jnp.take_along_axis(p, first[..., None], 1), jnp.take_along_axis(there, first, 1)
        more = length - p.shape[1]
        sides.append((jnp.pad(p, ((0, 0), (0, more), (0, width - p.shape[2]))), jnp.pad(there, ((0, 0), (0, more)))))
    (q, mine), (p, theirs) = sides
    pairs = mine & theirs
    gaps = jnp.sum(jnp.where(pairs[..., None], jnp.abs(p - q), 0), (1, 2))
    return gaps / jnp.maximum(jnp.sum(pairs, 1), 1).astype(gaps.dtype)
