"""Losses between the relations of a batch's rows; with `axis` the rows of all devices are related."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.gather import gather
from mmkd_jax.losses.numeric import at_least_float32, distance, inner, rows_that_count, smooth_l1, unit, zero_rows


def rkd_distance(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b e"],
    *,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, " b"]:
    """Relational distillation of distances, each in units of the mean distance.

    Formula: (1 / n) Σ_j huber(‖s_i − s_j‖ / μ_s − ‖t_i − t_j‖ / μ_t), μ the mean of the distances above 0

    Args:
        student: embeddings s, [b, d].
        teacher: embeddings t, [b, e].
        where: rows that count, [b].
        axis: the device axis in the per-device forms.

    Returns:
        Values [b]; their mean is the mean over all n² pairs, j = i included.

    Compares: relations of rows
    Extra: none
    Source: Park et al., Relational Knowledge Distillation, 2019, https://arxiv.org/abs/1904.05068
    Differs: duplicate rows get the gradient 0; the authors' clamp gives ~1e10 there

    Example:
        >>> x = jnp.array([[0.0], [1.0], [3.0]])
        >>> rkd_distance(x, 2 * x)
        Array([0., 0., 0.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)
    everyone, _ = gather(mask, axis)
    pairs = mask[:, None] & everyone[None, :]

    def relative(x):
        x = zero_rows(x, mask)
        others, _ = gather(x, axis)
        gap = _gaps(x, others)
        d = distance(jnp.sum(gap * gap, -1))
        above = pairs & (d > 0)
        s, count = jnp.sum(jnp.where(above, d, 0)), jnp.sum(above).astype(d.dtype)
        if axis is not None:
            s, count = jax.lax.psum((s, count), axis)
        mean = s / jnp.maximum(count, 1)
        return d / jnp.where(mean > 0, mean, 1)

    n = jnp.maximum(jnp.sum(everyone).astype(student.dtype), 1)
    return jnp.sum(jnp.where(pairs, smooth_l1(relative(student) - relative(teacher)), 0), 1) / n


def rkd_angle(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b e"],
    *,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, " b"]:
    """Relational distillation of the angles that three rows make.

    Formula: (1 / n²) Σ_jk huber(cos∠(s_j, s_i, s_k) − cos∠(t_j, t_i, t_k))

    Args:
        student: embeddings s, [b, d].
        teacher: embeddings t, [b, e].
        where: rows that count, [b].
        axis: the device axis in the per-device forms.

    Returns:
        Values [b]; their mean is the mean over all n³ triples, degenerate ones (angle 0) included.

    Compares: relations of rows
    Extra: none
    Source: Park et al., Relational Knowledge Distillation, 2019, https://arxiv.org/abs/1904.05068

    Example:
        >>> x = jnp.array([[0.0, 1.0], [1.0, 0.0], [3.0, 3.0]])
        >>> bool((rkd_angle(x, 2 * x) < 1e-6).all())
        True
    """
    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)
    everyone, _ = gather(mask, axis)
    triples = mask[:, None, None] & everyone[None, :, None] & everyone[None, None, :]

    def angles(x):
        x = zero_rows(x, mask)
        others, _ = gather(x, axis)
        side = unit(_gaps(x, others))
        return jnp.einsum("ijd,ikd->ijk", side, side, precision="highest")

    n = jnp.maximum(jnp.sum(everyone).astype(student.dtype), 1)
    return jnp.sum(jnp.where(triples, smooth_l1(angles(student) - angles(teacher)), 0), (1, 2)) / (n * n)


def sp(
    student: Float[Array, "b ..."],
    teacher: Float[Array, "b ..."],
    *,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, " b"]:
    """Similarity-preserving distillation: the rows of the Gram matrices, normalised.

    Formula: (1 / n) Σ_j (G_s[i, j] − G_t[i, j])², G = X Xᵀ with rows divided by their L2 norm

    Args:
        student: features, [b, ...], flattened.
        teacher: features, [b, ...], flattened.
        where: rows that count, [b].
        axis: the device axis in the per-device forms.

    Returns:
        Values [b]; their mean is ‖G_s − G_t‖² / n².

    Compares: relations of rows
    Extra: none
    Source: Tung and Mori, Similarity-Preserving Knowledge Distillation, 2019, https://arxiv.org/abs/1907.09682

    Example:
        >>> x = jnp.array([[0.0, 1.0], [1.0, 1.0]])
        >>> bool((sp(x, 2 * x) < 1e-6).all())
        True
    """
    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)
    everyone, _ = gather(mask, axis)

    def gram(x):
        x = zero_rows(x.reshape(len(x), -1), mask)
        others, _ = gather(x, axis)
        return unit(inner(x, others))

    n = jnp.maximum(jnp.sum(everyone).astype(student.dtype), 1)
    gap = gram(student) - gram(teacher)
    return jnp.sum(gap * gap, 1) / n


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


def _gaps(x, others):
    """x_i − y_j; exactly 0 between rows that are equal up to rounding.

    A compiler that fuses the model in may compute a row twice and round it differently, so that not even x_i − x_i is
    0: a direction or a distance would be made of that noise.
    """
    gap = x[:, None] - others[None]
    size = jnp.sum(x * x, -1)[:, None] + jnp.sum(others * others, -1)[None]
    noise = (8 * float(jnp.finfo(x.dtype).eps)) ** 2 * size
    return jnp.where((jnp.sum(gap * gap, -1) <= noise)[..., None], 0, gap)
