"""DarkRank: transfer of similarity rankings."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.collectives import gather
from mmkd_jax.losses.relational._gaps import gaps
from mmkd_jax.numeric import at_least_float32, keep_nan, like, rows_that_count, zero_rows
from mmkd_jax.typing import Count, Positive
from mmkd_jax.validation import validated


@validated
def dark_rank(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b e"],
    *,
    alpha: Positive = 3.0,
    beta: Positive = 3.0,
    length: Count | None = 4,
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " b"]:
    """Hard DarkRank: negative log-likelihood, under the student, of the teacher's ranking of each row's neighbors.

    Formula: −Σ_k log(exp S_π(k) / Σ_l≥k exp S_π(l)), S_j = −α ‖s_i − s_j‖^β, π the teacher's order, nearest first

    Args:
        student: embeddings s, [b, d].
        teacher: embeddings t, [b, e]; they define the ranking and get no gradient.
        alpha: α > 0, scale of the similarity scores.
        beta: β > 0, exponent of the distances.
        length: number of nearest neighbors to rank; None ranks the whole batch.
        where: mask of valid rows, [b].
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Per-example loss, [b], with each row in turn as the query.

    Compares: relations between examples
    Extra: none
    Source: Chen et al., DarkRank: Accelerating Deep Metric Learning via Cross Sample Similarities Transfer, 2018,
        https://arxiv.org/abs/1707.01220
    Differs: the paper ranks the whole batch; the authors' code uses only the first half of the rows as queries; the
        code of RKD, whose tables are often cited, ranks the nearest four for every row, which is the default here

    Example:
        >>> x = jnp.array([[0.0], [1.0], [3.0]])
        >>> dark_rank(x, x, alpha=1.0, beta=1.0).round(2)
        Array([0.13, 0.31, 0.31], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)
    all_valid, first = gather(mask, axis_name)
    is_self = first + jnp.arange(len(mask))[:, None] == jnp.arange(len(all_valid))[None, :]
    candidates = all_valid[None, :] & ~is_self

    def squares(x):
        x = zero_rows(x, mask)
        others, _ = gather(x, axis_name)
        gap = gaps(x, others)
        return jnp.sum(gap * gap, -1)

    far = jnp.where(candidates, squares(teacher), jnp.inf)
    top = len(all_valid) if length is None else min(length, len(all_valid))
    _, order = jax.lax.top_k(-far, top)
    ranked, square = (jnp.take_along_axis(x, order, 1) for x in (candidates, squares(student)))
    zero = square == 0
    power = jnp.where(zero, 0, jnp.exp(like(beta, square) / 2 * jnp.log(jnp.where(zero, 1, square))))
    score = jnp.where(ranked, -like(alpha, power) * power, jnp.finfo(power.dtype).min)
    log_likelihood = jnp.where(ranked, score - jax.lax.cumlogsumexp(score, 1, reverse=True), 0)
    return keep_nan(jnp.where(mask, -jnp.sum(log_likelihood, 1), 0), *(zero_rows(x, mask) for x in (student, teacher)))
