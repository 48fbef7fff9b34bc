"""Grassmann distance between feature subspaces."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.collectives import centered, summed
from mmkd_jax.losses.alignment._covariance import above_rounding
from mmkd_jax.numeric import at_least_float32, inner, keep_nan, rows_that_count, zero_rows
from mmkd_jax.typing import Count
from mmkd_jax.validation import validated


@validated
def grassmann(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b d"],
    *,
    dimensions: Count = 4,
    metric: Literal["projection", "geodesic"] = "projection",
    center: bool = True,
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    """Grassmann distance between the leading subspaces of student and teacher features.

    Formula: projection: ‖P_s − P_t‖²_F / 2 = k − ‖UᵀV‖²_F = Σ_i sin² θ_i; geodesic: Σ_i θ_i²; U and V the k leading
        directions of each side, P_s = U Uᵀ, P_t = V Vᵀ, cos θ_i the singular values of UᵀV

    Invariant to the pairing of rows, and to how the features are distributed within their subspace.

    Args:
        student: features s, [b, d].
        teacher: features t, [b, d].
        dimensions: k < d, the dimension of the subspaces.
        metric: function of the principal angles θ.
        center: use directions of the centered features (principal components), or of the raw features.
        where: mask of valid rows, [b].
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Scalar loss of the batch, from 0 to k, or to k (π / 2)² for the geodesic metric. Features of rank r < k, as in a
        batch of at most k rows, span a subspace of r dimensions: between subspaces of dimensions k and r, the
        projection metric adds (k − r) / 2, the geodesic metric adds right angles. If the k-th and the next direction
        are equally strong, or a geodesic angle is a right angle, the gradient is undefined and set to 0.

    Compares: features of one width, by the subspace they span
    Extra: usually a connector
    Source: Hamm and Lee, Grassmann Discriminant Analysis: a Unifying View on Subspace-Based Learning, 2008,
        https://doi.org/10.1145/1390156.1390204

    Example:
        >>> x = jnp.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
        >>> f"{grassmann(x, x[:, ::-1], dimensions=2, center=False):.2f}"
        '1.00'
    """
    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)

    def projector(x):
        x = centered(x[:, None], mask, axis_name)[0][:, 0] if center else zero_rows(x, mask)
        return _projector(summed(inner(x.T, x.T), axis_name), min(dimensions, x.shape[1]))

    p_s, p_t = projector(student), projector(teacher)
    if metric == "projection":
        return jnp.sum((p_s - p_t) ** 2) / 2
    larger = jnp.maximum(jnp.trace(p_s), jnp.trace(p_t))
    return keep_nan(_angles(inner(inner(p_s, p_t), p_s), larger), *(zero_rows(x, mask) for x in (student, teacher)))


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _projector(c, k):
    """Projector onto the eigenvectors of the k largest eigenvalues, excluding zero eigenvalues."""
    values, vectors = jnp.linalg.eigh(c)
    return inner(vectors * _chosen(values, k)[None], vectors)


@_projector.defjvp
def _turned(k, primals, tangents):
    """JVP: coupling between directions inside and outside the subspace, divided by their eigenvalue gap."""
    values, vectors = jnp.linalg.eigh(primals[0])
    chosen = _chosen(values, k)
    gap, scale = values[:, None] - values[None], jnp.max(values)
    wide = jnp.abs(gap) > 8 * len(values) * float(jnp.finfo(values.dtype).eps) * scale
    turn = jnp.where(wide, (chosen[:, None] - chosen[None]) / jnp.where(wide, gap, 1), 0)
    coupled = inner(inner(vectors.T, tangents[0]), vectors.T)
    return inner(vectors * chosen[None], vectors), inner(inner(vectors, (turn * coupled).T), vectors)


def _chosen(values, k):
    return (above_rounding(values) & (jnp.arange(len(values)) >= len(values) - k)).astype(values.dtype)


@jax.custom_jvp
def _angles(product, count):
    """Σ θ² over the `count` largest eigenvalues cos² θ."""
    return jnp.sum(_angle(jnp.linalg.eigh(product)[0], count) ** 2)


@_angles.defjvp
def _opened(primals, tangents):
    """d θ² / d cos² θ = −θ / (sin θ cos θ)."""
    values, vectors = jnp.linalg.eigh(primals[0])
    angle = _angle(values, primals[1])
    product = jnp.sin(angle) * jnp.cos(angle)
    tiny = 8 * len(values) * float(jnp.finfo(values.dtype).eps)
    right, closed = values <= tiny, values >= 1 - tiny
    slope = jnp.where(right, 0, jnp.where(closed, 1, angle / jnp.where(right | closed, 1, product)))
    change = jnp.sum(vectors * inner(tangents[0], vectors.T), 0)
    return jnp.sum(angle**2), -jnp.sum(slope * change)


def _angle(values, count):
    """Principal angles θ; 0 beyond the `count` largest eigenvalues."""
    counted = jnp.arange(len(values), dtype=values.dtype) >= len(values) - jnp.round(count)
    return jnp.where(counted, jnp.arccos(jnp.sqrt(jnp.clip(values, 0, 1))), 0)
