"""Relational knowledge distillation: distances and angles."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.gather import gather, summed
from mmkd_jax.losses.numeric import at_least_float32, distance, rows_that_count, smooth_l1, unit, zero_rows
from mmkd_jax.losses.relational.gaps import gaps


@checked
def rkd_distance(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b e"],
    *,
    normalize: bool = False,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, " b"]:
    """Relational distillation of distances, each in units of the mean distance.

    Formula: (1 / n) Σ_j huber(‖s_i − s_j‖ / μ_s − ‖t_i − t_j‖ / μ_t), μ the mean of the distances above 0

    Args:
        student: embeddings s, [b, d].
        teacher: embeddings t, [b, e].
        normalize: divide the embeddings by their norm first, as mmrazor does and the authors' code does not.
        where: rows that count, [b].
        axis: the device axis in the per-device forms.

    Returns:
        Values [b]; their mean is the mean over all n² pairs, j = i included.

    Compares: relations of rows
    Extra: none
    Source: Park et al., Relational Knowledge Distillation, 2019, https://arxiv.org/abs/1904.05068
    Differs: mmrazor normalises by default; duplicate rows get the gradient 0, where the authors' clamp gives ~1e10

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
        x = unit(x) if normalize else x
        others, _ = gather(x, axis)
        gap = gaps(x, others)
        d = distance(jnp.sum(gap * gap, -1))
        above = pairs & (d > 0)
        s, count = summed(jnp.sum(jnp.where(above, d, 0)), axis), summed(jnp.sum(above), axis).astype(d.dtype)
        mean = s / jnp.maximum(count, 1)
        return d / jnp.where(mean > 0, mean, 1)

    n = jnp.maximum(jnp.sum(everyone).astype(student.dtype), 1)
    return jnp.sum(jnp.where(pairs, smooth_l1(relative(student) - relative(teacher)), 0), 1) / n


@checked
def rkd_angle(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b e"],
    *,
    normalize: bool = False,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, " b"]:
    """Relational distillation of the angles that three rows make.

    Formula: (1 / n²) Σ_jk huber(cos∠(s_j, s_i, s_k) − cos∠(t_j, t_i, t_k))

    Args:
        student: embeddings s, [b, d].
        teacher: embeddings t, [b, e].
        normalize: divide the embeddings by their norm first, as mmrazor does and the authors' code does not.
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
        x = unit(x) if normalize else x
        others, _ = gather(x, axis)
        side = unit(gaps(x, others))
        return jnp.einsum("ijd,ikd->ijk", side, side, precision="highest")

    n = jnp.maximum(jnp.sum(everyone).astype(student.dtype), 1)
    return jnp.sum(jnp.where(triples, smooth_l1(angles(student) - angles(teacher)), 0), (1, 2)) / (n * n)
