"""Transfer of rankings."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.gather import gather
from mmkd_jax.losses.number import Positive
from mmkd_jax.losses.numeric import at_least_float32, like, rows_that_count, zero_rows
from mmkd_jax.losses.relational.gaps import gaps


@checked
def dark_rank(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b e"],
    *,
    alpha: Positive = 3.0,
    beta: Positive = 3.0,
    length: int | None = 4,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, " b"]:
    """Hard DarkRank: the likelihood, under the student, of the teacher's ranking of each row's neighbours.

    Formula: −Σ_k log(exp S_π(k) / Σ_l≥k exp S_π(l)), S_j = −α ‖s_i − s_j‖^β, π the teacher's order, nearest first

    Args:
        student: embeddings s, [b, d].
        teacher: embeddings t, [b, e]; they give the order, and get no gradient.
        alpha: α > 0.
        beta: β > 0.
        length: how many of the nearest are ranked; None is all of the batch.
        where: rows that count, [b].
        axis: the device axis in the per-device forms.

    Returns:
        Values [b], each row in turn being the query.

    Compares: relations of rows
    Extra: none
    Source: Chen et al., DarkRank: Accelerating Deep Metric Learning via Cross Sample Similarities Transfer, 2018,
        https://arxiv.org/abs/1707.01220
    Differs: the paper ranks the whole batch, its authors' code from the first half of the rows; the code of RKD, whose
        tables others quote, ranks the nearest four from every row, the default here

    Example:
        >>> x = jnp.array([[0.0], [1.0], [3.0]])
        >>> dark_rank(x, x, alpha=1.0, beta=1.0).round(2)
        Array([0.13, 0.31, 0.31], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)
    everyone, first = gather(mask, axis)
    itself = first + jnp.arange(len(mask))[:, None] == jnp.arange(len(everyone))[None, :]
    candidates = everyone[None, :] & ~itself

    def squares(x):
        x = zero_rows(x, mask)
        others, _ = gather(x, axis)
        gap = gaps(x, others)
        return jnp.sum(gap * gap, -1)

    far = jnp.where(candidates, squares(teacher), jnp.inf)
    top = len(everyone) if length is None else min(length, len(everyone))
    _, order = jax.lax.top_k(-far, top)
    ranked, square = (jnp.take_along_axis(x, order, 1) for x in (candidates, squares(student)))
    near = square == 0
    power = jnp.where(near, 0, jnp.exp(like(beta, square) / 2 * jnp.log(jnp.where(near, 1, square))))
    score = jnp.where(ranked, -like(alpha, power) * power, jnp.finfo(power.dtype).min)
    short = jnp.where(ranked, score - jax.lax.cumlogsumexp(score, 1, reverse=True), 0)
    return jnp.where(mask, -jnp.sum(short, 1), 0)
