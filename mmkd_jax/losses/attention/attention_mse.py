"""Attention scores of TinyBERT."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.attention.pairs import mean_that_counts, pairs_that_count
from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.numeric import at_least_float32


@checked
def attention_mse(
    student: Float[Array, "b n q k"],
    teacher: Float[Array, "b n q k"],
    *,
    mask: Bool[Array, "b k"] | Bool[Array, "b q k"] | None = None,
) -> Float[Array, " b"]:
    """Attention transfer of TinyBERT: mean squared difference of the attention scores, before the softmax.

    Formula: (1 / n) Σ_h mean_qk (s_hqk − t_hqk)², over the pairs that count

    Each example counts alike, however long it is. Heads of unlike number are summed or averaged first:
    `connect={"student": lambda x: x.sum(1, keepdims=True), "teacher": …}`.

    Args:
        student: scores s, [b, n, q, k]; attention probabilities are taken as well.
        teacher: scores t, [b, n, q, k].
        mask: tokens that count, [b, k], as queries and as keys; or pairs of query and key that do, [b, q, k].

    Returns:
        Values [b]; 0 without a pair that counts. Scores of −inf in both, as under a causal mask, differ by 0.

    Compares: attention scores
    Extra: none
    Source: Jiao et al., TinyBERT, 2020, https://arxiv.org/abs/1909.10351
    Differs: the authors' code sets scores at masked keys to 0 and averages over all pairs, padding as well; TextBrewer
        weighs an example by its length squared; ours is the paper's, of one text without padding, for each example

    Example:
        >>> attention_mse(jnp.ones((1, 2, 3, 3)), jnp.zeros((1, 2, 3, 3)), mask=jnp.array([[True, True, False]]))
        Array([1.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    pairs = pairs_that_count("attention_mse", student, mask)
    student, teacher = (jnp.where(pairs[:, None], x, 0) for x in (student, teacher))
    gone = (student == -jnp.inf) & (teacher == -jnp.inf)
    gap = jnp.where(gone, 0, student) - jnp.where(gone, 0, teacher)
    return mean_that_counts(gap * gap, pairs)
