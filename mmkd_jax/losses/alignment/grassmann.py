"""The distance between subspaces."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.alignment.covariance import there
from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.gather import centred, summed
from mmkd_jax.losses.numeric import at_least_float32, inner, rows_that_count, zero_rows


@checked
def grassmann(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b d"],
    *,
    dimensions: int = 4,
    metric: Literal["projection", "geodesic"] = "projection",
    centre: bool = True,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, ""]:
    """Distance on the Grassmannian: the subspaces in which the features of both sides mostly lie are to be one.

    Formula: projection: ‖P_s − P_t‖²_F / 2 = k − ‖UᵀV‖²_F = Σ_i sin² θ_i; geodesic: Σ_i θ_i²; U and V the k leading
        directions of each side, P_s = U Uᵀ, P_t = V Vᵀ, cos θ_i the singular values of UᵀV

    Which rows belong together, and how the features lie within their subspace, do not matter.

    Args:
        student: features s, [b, d].
        teacher: features t, [b, d].
        dimensions: k, below d.
        metric: of the principal angles θ.
        centre: directions of the features minus their mean (principal components), or of the features themselves.
        where: rows that count, [b].
        axis: the device axis in the per-device forms.

    Returns:
        One value for the batch, from 0 to k, geodesic to k (π / 2)². Features of a rank r below k, such as those of a
        batch with no more than k rows, have a subspace of r dimensions: of k dimensions and r, the projection metric
        adds (k − r) / 2, the geodesic one right angles. Where the k-th direction and the next are equally strong, or
        an angle of the geodesic metric is right, there is no gradient, and 0 in its place.

    Compares: features of one width, by the subspace they span
    Extra: usually a connector
    Source: Hamm and Lee, Grassmann Discriminant Analysis: a Unifying View on Subspace-Based Learning, 2008,
        https://doi.org/10.1145/1390156.1390204

    Example:
        >>> x = jnp.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
        >>> f"{grassmann(x, x[:, ::-1], dimensions=2, centre=False):.2f}"
        '1.00'
    """
    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)

    def projector(x):
        x = centred(x[:, None], mask, axis)[0][:, 0] if centre else zero_rows(x, mask)
        return _projector(summed(inner(x.T, x.T), axis), min(dimensions, x.shape[1]))

    p_s, p_t = projector(student), projector(teacher)
    if metric == "projection":
        return jnp.sum((p_s - p_t) ** 2) / 2
    larger = jnp.maximum(jnp.trace(p_s), jnp.trace(p_t))
    return _angles(inner(inner(p_s, p_t), p_s), larger)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _projector(c, k):
    """Onto the eigenvectors of the k largest eigenvalues; those that are 0 have none."""
    values, vectors = jnp.linalg.eigh(c)
    return inner(vectors * _chosen(values, k)[None], vectors)


@_projector.defjvp
def _turned(k, primals, tangents):
    """A projector turns by what couples directions inside to those outside, divided by the gap of their strengths."""
    values, vectors = jnp.linalg.eigh(primals[0])
    chosen = _chosen(values, k)
    gap, scale = values[:, None] - values[None], jnp.max(values)
    wide = jnp.abs(gap) > 8 * len(values) * float(jnp.finfo(values.dtype).eps) * scale
    turn = jnp.where(wide, (chosen[:, None] - chosen[None]) / jnp.where(wide, gap, 1), 0)
    coupled = inner(inner(vectors.T, tangents[0]), vectors.T)
    return inner(vectors * chosen[None], vectors), inner(inner(vectors, (turn * coupled).T), vectors)


def _chosen(values, k):
    return (there(values) & (jnp.arange(len(values)) >= len(values) - k)).astype(values.dtype)


@jax.custom_jvp
def _angles(product, count):
    """Σ θ² over as many of the largest eigenvalues cos² θ."""
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
    """θ; 0 in the place of what is no angle."""
    counted = jnp.arange(len(values), dtype=values.dtype) >= len(values) - jnp.round(count)
    return jnp.where(counted, jnp.arccos(jnp.sqrt(jnp.clip(values, 0, 1))), 0)
