"""Deep canonical correlation analysis (CCA)."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.alignment._covariance import above_rounding, covariances
from mmkd_jax.numeric import at_least_float32, inner, like, rows_that_count
from mmkd_jax.typing import Count, Positive
from mmkd_jax.validation import validated


@validated
def cca(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b e"],
    *,
    components: Count | None = None,
    r1: Positive = 1e-4,
    r2: Positive = 1e-4,
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    """Deep canonical correlation analysis (DCCA): negative sum of the canonical correlations.

    Formula: −Σ_i σ_i(T), T = Σ₁₁^−½ Σ₁₂ Σ₂₂^−½, Σ₁₁ = S̄ᵀS̄ / (n − 1) + r₁ I, Σ₂₂ = T̄ᵀT̄ / (n − 1) + r₂ I,
        Σ₁₂ = S̄ᵀT̄ / (n − 1)

    Invariant to invertible linear maps of either side, up to the ridges. With no more rows than features, any two sides
    are fully correlated: the batch must be much larger than both widths.

    Args:
        student: features s, [b, d].
        teacher: features t, [b, e].
        components: number of correlations to sum, largest first; None is all min(d, e).
        r1: ridge added to the student's covariance, in squared feature units.
        r2: ridge added to the teacher's covariance.
        where: mask of valid rows, [b].
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Scalar loss of the batch, from −min(d, e) to 0. The gradient is defined for equal correlations; a zero
        correlation has zero gradient, where the paper's is undefined.

    Compares: features of any two widths, by their correlations
    Extra: usually a connector
    Source: Andrew et al., Deep Canonical Correlation Analysis, 2013, https://proceedings.mlr.press/v28/andrew13.html
    Differs: a widely used PyTorch implementation also adds r₁ to TᵀT, whose square roots it sums, and returns a
        different value if all singular values are requested

    Example:
        >>> x = jnp.array([[0.0, 1.0], [1.0, 1.0], [2.0, 0.0], [5.0, 3.0]])
        >>> f"{cca(x, x @ jnp.array([[1.0, 2.0], [3.0, -1.0]])):.2f}"
        '-2.00'
    """
    student, teacher = at_least_float32(student, teacher)
    c_s, c_t, between = covariances(student, teacher, rows_that_count(student, where), axis_name)
    c_s, c_t = (c + like(r, c[0, 0]) * jnp.eye(len(c), dtype=c.dtype) for c, r in ((c_s, r1), (c_t, r2)))
    n = min(between.shape)
    return -_correlations(c_s, c_t, between, n if components is None else min(components, n))


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def _correlations(c_s, c_t, between, components):
    """Σ σ_i(T) over the largest singular values."""
    return jnp.sum(_decomposed(c_s, c_t, between)[1][:components])


@_correlations.defjvp
def _slope(components, primals, tangents):
    """The paper's gradient; differentiating the decompositions would divide by eigenvalue gaps."""
    left, values, right = _decomposed(*primals)
    left, values, right = left[:, :components], values[:components], right[:, :components]
    nonzero = (values > 8 * len(values) * float(jnp.finfo(values.dtype).eps)).astype(values.dtype)
    to_s, to_t = (inner(x * (values * nonzero)[None], x) / -2 for x in (left, right))
    slopes = to_s, to_t, inner(left * nonzero[None], right)
    change = sum((jnp.sum(g * d) for g, d in zip(slopes, tangents, strict=True)), start=jnp.zeros((), values.dtype))
    return jnp.sum(values), change


def _decomposed(c_s, c_t, between):
    """Σ₁₁^−½ U, the singular values of T = U diag(σ) Vᵀ, and Σ₂₂^−½ V."""
    whiten_s, whiten_t = _whitening(c_s), _whitening(c_t)
    u, values, v = jnp.linalg.svd(inner(inner(whiten_s, between.T), whiten_t), full_matrices=False)
    return inner(whiten_s, u.T), values, inner(whiten_t, v)


def _whitening(c):
    """C^−½; 0 in numerically null directions."""
    values, vectors = jnp.linalg.eigh(c)
    mask = above_rounding(values)
    return inner(vectors * jnp.where(mask, jax.lax.rsqrt(jnp.where(mask, values, 1)), 0)[None], vectors)
