"""Attention-distribution transfer of MiniLM."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.attention._pairs import mean_divergence, pair_mask
from mmkd_jax.numeric import at_least_float32
from mmkd_jax.validation import validated


@validated
def attention_kl(
    student: Float[Array, "b n q k"],
    teacher: Float[Array, "b n q k"],
    *,
    mask: Bool[Array, "b k"] | Bool[Array, "b q k"] | None = None,
    given: Literal["probabilities", "scores"] = "probabilities",
) -> Float[Array, " b"]:
    """Attention transfer of MiniLM: KL from the teacher's attention distributions to the student's.

    Formula: (1 / n) Σ_h mean_q Σ_k p_hqk (log p_hqk − log q_hqk), over valid queries and keys

    With a mask, p and q are distributions over the valid keys. If the numbers of heads differ, average the heads first:
    `connect={"student": lambda x: x.mean(1, keepdims=True), "teacher": …}`.

    Args:
        student: attention probabilities q, or scores, [b, n, q, k].
        teacher: attention probabilities p, or scores, [b, n, q, k].
        mask: mask of valid tokens, [b, k], as queries and as keys; or of valid query–key pairs, [b, q, k].
        given: "probabilities" (after the softmax) or "scores" (before it), for both student and teacher.

    Returns:
        Per-example loss, [b]; 0 if no query is valid. A probability of 0 is replaced by the smallest float and gets no
        gradient: where only the student's is 0, the loss is large, but finite. Scores keep their gradient there; a
        score of −inf counts as masked if both have it, and makes the loss +inf if only the student has it.

    Compares: attention distributions
    Extra: none
    Source: Wang et al., MiniLM, 2020, https://arxiv.org/abs/2002.10957
    Differs: TextBrewer takes the cross-entropy, with a softmax that includes padding

    Example:
        >>> attention_kl(jnp.full((1, 1, 2, 2), 0.5), jnp.array([[[[1.0, 0.0], [0.0, 1.0]]]])).round(4)
        Array([0.6931], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    pairs = pair_mask("attention_kl", student, mask)
    if given == "probabilities":
        tiny = jnp.finfo(student.dtype).tiny
        student, teacher = (jnp.log(jnp.maximum(jnp.where(pairs[:, None], x, 1), tiny)) for x in (student, teacher))
    return mean_divergence(student, teacher, pairs)
