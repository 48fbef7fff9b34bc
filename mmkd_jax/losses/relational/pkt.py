"""Probabilistic knowledge transfer (PKT)."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.collectives import gather
from mmkd_jax.numeric import at_least_float32, distance, inner, rows_that_count, zero_rows
from mmkd_jax.validation import validated


@validated
def pkt(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b e"],
    *,
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " b"]:
    """Probabilistic knowledge transfer (PKT): KL between cosine-similarity distributions over the batch.

    Formula: (1 / n) Σ_j p_ij log(p_ij / q_ij), p_ij ∝ (1 + cos(t_i, t_j)) / 2, q likewise of s

    Args:
        student: embeddings s, [b, d].
        teacher: embeddings t, [b, e].
        where: mask of valid rows, [b].
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Per-example loss, [b]; the mean is over all n² pairs, j = i included, as in the authors' code.

    Compares: relations between examples
    Extra: none
    Source: Passalis and Tefas, Learning Deep Representations with Probabilistic Knowledge Transfer, 2018,
        https://arxiv.org/abs/1803.10837
    Differs: the paper sums over j ≠ i; the authors' code averages over all pairs and adds 1e-7 to norms and
        probabilities, as here

    Example:
        >>> x = jnp.array([[0.0, 1.0], [1.0, 1.0]])
        >>> bool((jnp.abs(pkt(x, 2 * x)) < 1e-6).all())
        True
    """
    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)
    all_valid, _ = gather(mask, axis_name)
    pairs, eps = mask[:, None] & all_valid[None, :], 1e-7

    def distribution(x):
        x = zero_rows(x, mask)
        size = distance(jnp.sum(x * x, -1, keepdims=True))
        x = jnp.where(size > 0, x, 0) / (size + eps)  # otherwise, a zero row would get the gradient 1 / eps
        others, _ = gather(x, axis_name)
        similar = jnp.where(pairs, jnp.maximum((inner(x, others) + 1) / 2, 0), 0)  # rounding may go below 0
        mass = jnp.sum(similar, 1, keepdims=True)
        return similar / jnp.where(mass > 0, mass, 1)

    p, q = distribution(teacher), distribution(student)
    n = jnp.maximum(jnp.sum(all_valid).astype(student.dtype), 1)
    return jnp.sum(jnp.where(pairs, p * jnp.log((p + eps) / (q + eps)), 0), 1) / n
