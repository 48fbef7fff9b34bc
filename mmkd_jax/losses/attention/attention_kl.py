"""Attention distributions of MiniLM."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.attention.pairs import mean_divergence, pairs_that_count
from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.numeric import at_least_float32


@checked
def attention_kl(
    student: Float[Array, "b n q k"],
    teacher: Float[Array, "b n q k"],
    *,
    mask: Bool[Array, "b k"] | Bool[Array, "b q k"] | None = None,
    given: Literal["probabilities", "scores"] = "probabilities",
) -> Float[Array, " b"]:
    """Attention transfer of MiniLM: KL from the teacher's attention distributions to the student's.

    Formula: (1 / n) Σ_h mean_q Σ_k p_hqk (log p_hqk − log q_hqk), over the queries and keys that count

    With a mask, p and q are the distributions over the keys that count. Heads of unlike number are averaged first:
    `connect={"student": lambda x: x.mean(1, keepdims=True), "teacher": …}`.

    Args:
        student: attention q, [b, n, q, k].
        teacher: attention p, [b, n, q, k].
        mask: tokens that count, [b, k], as queries and as keys; or pairs of query and key that do, [b, q, k].
        given: whether student and teacher are probabilities, after the softmax, or scores, before it.

    Returns:
        Values [b]; 0 without a query that counts. A probability of 0 is taken as the smallest float, without a
        gradient: where only the student's is 0, the value is large, not infinite. Scores keep their gradient there;
        a score of −inf in both counts as removed, in the student only, it makes the value +inf.

    Compares: attention distributions
    Extra: none
    Source: Wang et al., MiniLM, 2020, https://arxiv.org/abs/2002.10957
    Differs: TextBrewer takes the cross-entropy, and a softmax that gives padding a share

    Example:
        >>> attention_kl(jnp.full((1, 1, 2, 2), 0.5), jnp.array([[[[1.0, 0.0], [0.0, 1.0]]]])).round(4)
        Array([0.6931], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    pairs = pairs_that_count("attention_kl", student, mask)
    if given == "probabilities":
        tiny = jnp.finfo(student.dtype).tiny
        student, teacher = (jnp.log(jnp.maximum(jnp.where(pairs[:, None], x, 1), tiny)) for x in (student, teacher))
    return mean_divergence(student, teacher, pairs)
