"""Probabilistic knowledge transfer."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.gather import gather
from mmkd_jax.losses.numeric import at_least_float32, distance, inner, rows_that_count, zero_rows


@checked
def pkt(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b e"],
    *,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, " b"]:
    """Probabilistic knowledge transfer: each row's cosine similarities as a distribution over the batch.

    Formula: (1 / n) Σ_j p_ij log(p_ij / q_ij), p_ij ∝ (1 + cos(t_i, t_j)) / 2, q likewise of s

    Args:
        student: embeddings s, [b, d].
        teacher: embeddings t, [b, e].
        where: rows that count, [b].
        axis: the device axis in the per-device forms.

    Returns:
        Values [b]; their mean is the mean over all n² pairs, j = i included, as in the authors' code.

    Compares: relations of rows
    Extra: none
    Source: Passalis and Tefas, Learning Deep Representations with Probabilistic Knowledge Transfer, 2018,
        https://arxiv.org/abs/1803.10837
    Differs: the paper sums over j ≠ i; the authors' code takes the mean over all pairs, and adds 1e-7 to norms and
        probabilities, which this follows

    Example:
        >>> x = jnp.array([[0.0, 1.0], [1.0, 1.0]])
        >>> bool((jnp.abs(pkt(x, 2 * x)) < 1e-6).all())
        True
    """
    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)
    everyone, _ = gather(mask, axis)
    pairs, eps = mask[:, None] & everyone[None, :], 1e-7

    def distribution(x):
        x = zero_rows(x, mask)
        size = distance(jnp.sum(x * x, -1, keepdims=True))
        x = jnp.where(size > 0, x, 0) / (size + eps)  # a zero row would get the gradient 1 / eps
        others, _ = gather(x, axis)
        similar = jnp.where(pairs, jnp.maximum((inner(x, others) + 1) / 2, 0), 0)  # opposite rows may round below 0
        mass = jnp.sum(similar, 1, keepdims=True)
        return similar / jnp.where(mass > 0, mass, 1)

    p, q = distribution(teacher), distribution(student)
    n = jnp.maximum(jnp.sum(everyone).astype(student.dtype), 1)
    return jnp.sum(jnp.where(pairs, p * jnp.log((p + eps) / (q + eps)), 0), 1) / n
