"""Contrastive loss of compositional contrastive learning (CCL)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from mmkd_jax.collectives import gather
from mmkd_jax.numeric import at_least_float32, inner, like, rows_that_count, unit, zero_rows
from mmkd_jax.typing import Positive
from mmkd_jax.validation import validated


@validated
def ccl(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b d"],
    labels: Integer[Array, " b"],
    *,
    temperature: Positive = 0.5,
    symmetric: bool = False,
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " b"]:
    """Multi-class contrastive loss of CCL: attract rows of the same class and repel the others, equally weighted.

    Formula: mean_{j: y_j = y_i} −log p_ij + mean_{j: y_j ≠ y_i} −log(1 − p_ij), p_i = softmax_j(cos(s_i, t_j) / τ);
    symmetric: plus the same with s and t swapped

    Args:
        student: embeddings s, [b, d].
        teacher: embeddings t, [b, d], of another modality.
        labels: y, [b].
        temperature: τ > 0.
        symmetric: sum both directions.
        where: mask of valid rows, [b]; invalid rows are not candidates either.
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Per-example loss, [b]. The second part is 0 if the batch has only one class.

    Compares: embeddings, labels
    Extra: usually a connector; `methods.ccl` adds the composition of both embeddings
    Source: Chen et al., Distilling Audio-Visual Knowledge by Compositional Contrastive Learning, 2021,
        https://arxiv.org/abs/2104.10955
    Differs: the authors' code adds 1e-10 inside both logarithms, and is NaN if all rows are of one class

    Example:
        >>> x = jnp.eye(2)
        >>> [f"{v:.4f}" for v in ccl(x, x, jnp.array([0, 1]), temperature=1.0)]
        ['0.6265', '0.6265']
    """
    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)
    student, teacher = (unit(zero_rows(x, mask)) for x in (student, teacher))
    all_valid, first = gather(mask, axis_name)
    positive = (first + jnp.arange(len(mask)))[:, None] == jnp.arange(len(all_valid))[None, :]
    # an invalid row keeps its own positive, so that its softmax is not over an empty set
    allowed = all_valid[None, :] | positive
    same_class = (labels[:, None] == gather(labels, axis_name)[0][None, :]) | positive

    def average(values, chosen):
        count = jnp.sum(chosen, 1).astype(values.dtype)
        return jnp.sum(jnp.where(chosen, values, 0), 1) / jnp.maximum(count, 1)

    def one_way(anchor, others):
        score = jnp.where(
            allowed, inner(anchor, gather(others, axis_name)[0]) / like(temperature, anchor[0, 0]), -jnp.inf
        )
        logp = jax.nn.log_softmax(score, -1)
        near, far = allowed & same_class, allowed & ~same_class
        return average(-jnp.where(near, logp, 0), near) + average(-_log_rest(logp, far), far)

    values = one_way(student, teacher)
    return values + one_way(teacher, student) if symmetric else values


def _log_rest(logp: Float[Array, "b n"], chosen: Bool[Array, "b n"]) -> Float[Array, "b n"]:
    """Return log(1 − p) where chosen; for the largest p, the log of the sum of the others, which is accurate near 0."""
    top = jnp.argmax(logp, 1)[:, None] == jnp.arange(logp.shape[1])[None, :]
    others = jnp.where(top, -jnp.inf, logp)
    nonempty = jnp.any(others != -jnp.inf, 1, keepdims=True)
    log_rest_of_top = jax.nn.logsumexp(jnp.where(nonempty, others, 0), 1, keepdims=True)
    p = jnp.exp(jnp.where(chosen & ~top, logp, -jnp.inf))
    return jnp.where(chosen, jnp.where(top, log_rest_of_top, jnp.log1p(-p)), 0)
