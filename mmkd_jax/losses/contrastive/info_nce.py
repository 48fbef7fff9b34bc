"""InfoNCE contrastive loss."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.contrastive._distributions import candidates, log_affinities, normalized_rows, positive_nll
from mmkd_jax.losses.contrastive._ring import LOG_SUM_EXP, totals
from mmkd_jax.numeric import like
from mmkd_jax.typing import Positive
from mmkd_jax.validation import validated


@validated
def info_nce(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b d"],
    *,
    temperature: Positive = 0.07,
    symmetric: bool = False,
    ring: bool = False,
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " b"]:
    """InfoNCE: cross-entropy of picking a row's teacher embedding among those of the batch.

    Formula: −log softmax_j(cos(s_i, t_j) / τ)_i; symmetric: averaged with the same, s and t swapped

    Args:
        student: embeddings s, [b, d].
        teacher: embeddings t, [b, d].
        temperature: τ > 0.
        symmetric: average both directions, as in CLIP.
        ring: compute similarities blockwise, and recompute them in the backward pass, so that they are never all in
            memory. With `axis_name`, the teacher's rows travel around a ring of devices. Same value and gradient;
            first-order reverse mode only.
        where: mask of valid rows, [b]; invalid rows are not negatives either.
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Per-example loss, [b].

    Compares: embeddings
    Extra: usually a connector
    Source: van den Oord et al., Representation Learning with Contrastive Predictive Coding, 2018,
        https://arxiv.org/abs/1807.03748

    Example:
        >>> x = jnp.eye(2)
        >>> [f"{v:.4f}" for v in info_nce(x, x, temperature=1.0)]
        ['0.3133', '0.3133']
    """
    mask, (student, teacher) = normalized_rows((student, teacher), where)
    if ring:
        student, zero_bias = student / like(temperature, student), jnp.zeros((), student.dtype)
        rows, columns = totals(LOG_SUM_EXP, symmetric, axis_name, student, teacher, mask, zero_bias)
        matched = jnp.sum(student * teacher, -1)
        values = jax.nn.softplus(rows - matched)  # `rows` excludes the positive: a near-perfect match keeps precision
        return values if columns is None else (values + jax.nn.softplus(columns - matched)) / 2
    allowed, positive = candidates(mask, axis_name)

    def one_way(anchor, others):
        return positive_nll(log_affinities(anchor, others, temperature, allowed, axis_name), positive)

    values = one_way(student, teacher)
    return (values + one_way(teacher, student)) / 2 if symmetric else values
