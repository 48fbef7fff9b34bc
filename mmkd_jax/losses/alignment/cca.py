"""Canonical correlation analysis, as a loss of a network's outputs."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.alignment.covariance import covariances, there
from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.number import Positive
from mmkd_jax.losses.numeric import at_least_float32, inner, like, rows_that_count


@checked
def cca(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b e"],
    *,
    components: int | None = None,
    r1: Positive = 1e-4,
    r2: Positive = 1e-4,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, ""]:
    """Deep CCA: minus the sum of the canonical correlations of both sides.

    Formula: −Σ_i σ_i(T), T = Σ₁₁^−½ Σ₁₂ Σ₂₂^−½, Σ₁₁ = S̄ᵀS̄ / (n − 1) + r₁ I, Σ₂₂ = T̄ᵀT̄ / (n − 1) + r₂ I,
        Σ₁₂ = S̄ᵀT̄ / (n − 1)

    Up to the ridges, invertible linear maps of a side change nothing. With no more rows than features, everything
    correlates with everything: the batch must be well larger than both widths.

    Args:
        student: features s, [b, d].
        teacher: features t, [b, e].
        components: number of correlations that are added up, from the largest on; None is all, min(d, e).
        r1: ridge of the student's covariance, in the square of its unit.
        r2: ridge of the teacher's covariance.
        where: rows that count, [b].
        axis: the device axis in the per-device forms.

    Returns:
        One value for the batch, from −min(d, e) to 0. Equal correlations have a gradient; one that is 0 has the
        gradient 0, where the paper's is not defined.

    Compares: features of any two widths, by their correlations
    Extra: usually a connector
    Source: Andrew et al., Deep Canonical Correlation Analysis, 2013, https://proceedings.mlr.press/v28/andrew13.html
    Differs: a PyTorch code in wide use adds r₁ to TᵀT, too, whose roots it adds up, and gives another value where all
        singular values are asked for

    Example:
        >>> x = jnp.array([[0.0, 1.0], [1.0, 1.0], [2.0, 0.0], [5.0, 3.0]])
        >>> f"{cca(x, x @ jnp.array([[1.0, 2.0], [3.0, -1.0]])):.2f}"
        '-2.00'
    """
    student, teacher = at_least_float32(student, teacher)
    c_s, c_t, between = covariances(student, teacher, rows_that_count(student, where), axis)
    c_s, c_t = (c + like(r, c[0, 0]) * jnp.eye(len(c), dtype=c.dtype) for c, r in ((c_s, r1), (c_t, r2)))
    n = min(between.shape)
    return -_correlations(c_s, c_t, between, n if components is None else min(components, n))


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def _correlations(c_s, c_t, between, components):
    """Σ σ_i(T) over the largest."""
    return jnp.sum(_decomposed(c_s, c_t, between)[1][:components])


@_correlations.defjvp
def _slope(components, primals, tangents):
    """The paper's gradient; those of the decompositions would divide by gaps between eigenvalues."""
    left, values, right = _decomposed(*primals)
    left, values, right = left[:, :components], values[:components], right[:, :components]
    kept = (values > 8 * len(values) * float(jnp.finfo(values.dtype).eps)).astype(values.dtype)
    to_s, to_t = (inner(x * (values * kept)[None], x) / -2 for x in (left, right))
    slopes = to_s, to_t, inner(left * kept[None], right)
    change = sum((jnp.sum(g * d) for g, d in zip(slopes, tangents, strict=True)), start=jnp.zeros((), values.dtype))
    return jnp.sum(values), change


def _decomposed(c_s, c_t, between):
    """Σ₁₁^−½ U, the singular values of T = U diag(σ) Vᵀ, and Σ₂₂^−½ V."""
    whiten_s, whiten_t = _whitening(c_s), _whitening(c_t)
    u, values, v = jnp.linalg.svd(inner(inner(whiten_s, between.T), whiten_t), full_matrices=False)
    return inner(whiten_s, u.T), values, inner(whiten_t, v)


def _whitening(c):
    """C^−½; 0 in directions of which nothing but rounding is left."""
    values, vectors = jnp.linalg.eigh(c)
    some = there(values)
    return inner(vectors * jnp.where(some, jax.lax.rsqrt(jnp.where(some, values, 1)), 0)[None], vectors)
