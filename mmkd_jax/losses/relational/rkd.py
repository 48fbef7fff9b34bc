"""Relational knowledge distillation (RKD): distances and angles."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.collectives import gather, summed
from mmkd_jax.losses.relational._gaps import gaps
from mmkd_jax.numeric import at_least_float32, distance, rows_that_count, smooth_l1, unit, zero_rows
from mmkd_jax.validation import validated


@validated
def rkd_distance(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b e"],
    *,
    normalize: bool = False,
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " b"]:
    """Distance-wise relational knowledge distillation (RKD-D): Huber loss of pairwise distances, scaled by their mean.

    Formula: (1 / n) Σ_j huber(‖s_i − s_j‖ / μ_s − ‖t_i − t_j‖ / μ_t), μ the mean of the positive distances

    Args:
        student: embeddings s, [b, d].
        teacher: embeddings t, [b, e].
        normalize: divide the embeddings by their norms first, as in mmrazor, but not in the authors' code.
        where: mask of valid rows, [b].
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Per-example loss, [b]; the mean is over all n² pairs, j = i included.

    Compares: relations between examples
    Extra: none
    Source: Park et al., Relational Knowledge Distillation, 2019, https://arxiv.org/abs/1904.05068
    Differs: mmrazor normalizes by default; duplicate rows get zero gradient, where the authors' clamp gives ~1e10

    Example:
        >>> x = jnp.array([[0.0], [1.0], [3.0]])
        >>> rkd_distance(x, 2 * x)
        Array([0., 0., 0.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)
    all_valid, _ = gather(mask, axis_name)
    pairs = mask[:, None] & all_valid[None, :]

    def relative(x):
        x = zero_rows(x, mask)
        x = unit(x) if normalize else x
        others, _ = gather(x, axis_name)
        gap = gaps(x, others)
        d = distance(jnp.sum(gap * gap, -1))
        above = pairs & (d > 0)
        s, count = summed(jnp.sum(jnp.where(above, d, 0)), axis_name), summed(jnp.sum(above), axis_name).astype(d.dtype)
        mean = s / jnp.maximum(count, 1)
        return d / jnp.where(mean > 0, mean, 1)

    n = jnp.maximum(jnp.sum(all_valid).astype(student.dtype), 1)
    return jnp.sum(jnp.where(pairs, smooth_l1(relative(student) - relative(teacher)), 0), 1) / n


@validated
def rkd_angle(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b e"],
    *,
    normalize: bool = False,
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " b"]:
    """Angle-wise relational knowledge distillation (RKD-A): Huber loss of the angles formed by triples of rows.

    Formula: (1 / n²) Σ_jk huber(cos∠(s_j, s_i, s_k) − cos∠(t_j, t_i, t_k))

    Args:
        student: embeddings s, [b, d].
        teacher: embeddings t, [b, e].
        normalize: divide the embeddings by their norms first, as in mmrazor, but not in the authors' code.
        where: mask of valid rows, [b].
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Per-example loss, [b]; the mean is over all n³ triples, degenerate ones (angle 0) included.

    Compares: relations between examples
    Extra: none
    Source: Park et al., Relational Knowledge Distillation, 2019, https://arxiv.org/abs/1904.05068

    Example:
        >>> x = jnp.array([[0.0, 1.0], [1.0, 0.0], [3.0, 3.0]])
        >>> bool((rkd_angle(x, 2 * x) < 1e-6).all())
        True
    """
    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)
    all_valid, _ = gather(mask, axis_name)
    triples = mask[:, None, None] & all_valid[None, :, None] & all_valid[None, None, :]

    def angles(x):
        x = zero_rows(x, mask)
        x = unit(x) if normalize else x
        others, _ = gather(x, axis_name)
        side = unit(gaps(x, others))
        return jnp.einsum("ijd,ikd->ijk", side, side, precision="highest")

    n = jnp.maximum(jnp.sum(all_valid).astype(student.dtype), 1)
    return jnp.sum(jnp.where(triples, smooth_l1(angles(student) - angles(teacher)), 0), (1, 2)) / (n * n)
