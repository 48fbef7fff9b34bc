"""Universal logit distillation, between models with different vocabularies."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.numeric import at_least_float32, log_softmax, softened
from mmkd_jax.typing import Positive
from mmkd_jax.validation import validated


@validated
def uld(
    student: Float[Array, "b l c"],
    teacher: Float[Array, "b m v"],
    *,
    mask: Bool[Array, "b l"] | None = None,
    teacher_mask: Bool[Array, "b m"] | None = None,
    temperature: Positive = 1.0,
) -> Float[Array, " b"]:
    """Universal logit distillation (ULD): L1 distance of sorted probabilities, for models with different vocabularies.

    Formula: mean_i Σ_k |p_i(k) − q_i(k)|, p_i(k) the k-th largest of softmax(t_i / T), q_i(k) likewise for s; the
        smaller vocabulary is padded with zeros

    The i-th token under the student's mask is paired with the i-th under the teacher's, as long as both exist, so that
    masked answers may start at different positions. Next-token logits are one position before the token they predict.

    Args:
        student: logits s, [b, l, c].
        teacher: logits t, [b, m, v].
        mask: mask of the student's valid tokens; None means all.
        teacher_mask: mask of the teacher's valid tokens; None means all.
        temperature: T > 0, a scalar or one value per example.

    Returns:
        Values [b], 0 … 2, without the factor T²; 0 if either text has no valid token. A class at −inf has probability
        0, as if it were not in the vocabulary.

    Compares: logits of texts; vocabularies may differ
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
    for logits, valid in ((student, mask), (teacher, teacher_mask)):
        p = jnp.flip(jnp.sort(jnp.exp(log_softmax(softened(logits, temperature))), -1), -1)
        valid = jnp.ones(p.shape[:2], bool) if valid is None else valid
        first = jnp.argsort(~valid, 1, stable=True)  # valid tokens first, in order
        p, valid = jnp.take_along_axis(p, first[..., None], 1), jnp.take_along_axis(valid, first, 1)
        padding = length - p.shape[1]
        p = jnp.pad(p, ((0, 0), (0, padding), (0, width - p.shape[2])))
        sides.append((p, jnp.pad(valid, ((0, 0), (0, padding)))))
    (q, student_valid), (p, teacher_valid) = sides
    pairs = student_valid & teacher_valid
    gaps = jnp.sum(jnp.where(pairs[..., None], jnp.abs(p - q), 0), (1, 2))
    return gaps / jnp.maximum(jnp.sum(pairs, 1), 1).astype(gaps.dtype)
