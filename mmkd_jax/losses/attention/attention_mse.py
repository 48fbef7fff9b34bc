"""Attention-score transfer of TinyBERT."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.attention._pairs import masked_mean, pair_mask
from mmkd_jax.numeric import at_least_float32
from mmkd_jax.validation import validated


@validated
def attention_mse(
    student: Float[Array, "b n q k"],
    teacher: Float[Array, "b n q k"],
    *,
    mask: Bool[Array, "b k"] | Bool[Array, "b q k"] | None = None,
) -> Float[Array, " b"]:
    """Attention transfer of TinyBERT: mean squared error of the attention scores, before the softmax.

    Formula: (1 / n) Σ_h mean_qk (s_hqk − t_hqk)², over valid pairs

    Examples have equal weight, regardless of length. If the numbers of heads differ, sum or average the heads first:
    `connect={"student": lambda x: x.sum(1, keepdims=True), "teacher": …}`.

    Args:
        student: scores s, [b, n, q, k]; attention probabilities work, too.
        teacher: scores t, [b, n, q, k].
        mask: mask of valid tokens, [b, k], as queries and as keys; or of valid query–key pairs, [b, q, k].

    Returns:
        Per-example loss, [b]; 0 if no pair is valid. Scores of −inf in both, as under a causal mask, contribute 0.

    Compares: attention scores
    Extra: none
    Source: Jiao et al., TinyBERT, 2020, https://arxiv.org/abs/1909.10351
    Differs: the authors' code sets scores at masked keys to 0 and averages over all pairs, including padding;
        TextBrewer weights an example by its length squared; here, each example gets the paper's loss of one unpadded
        text

    Example:
        >>> attention_mse(jnp.ones((1, 2, 3, 3)), jnp.zeros((1, 2, 3, 3)), mask=jnp.array([[True, True, False]]))
        Array([1.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    pairs = pair_mask("attention_mse", student, mask)
    student, teacher = (jnp.where(pairs[:, None], x, 0) for x in (student, teacher))
    masked = (student == -jnp.inf) & (teacher == -jnp.inf)
    gap = jnp.where(masked, 0, student) - jnp.where(masked, 0, teacher)
    return masked_mean(gap * gap, pairs)
