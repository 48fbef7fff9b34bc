"""Covariances over the global batch, and their numerical rank."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.collectives import centered, summed
from mmkd_jax.numeric import inner


def covariances(
    student: Float[Array, "b d"], teacher: Float[Array, "b e"], where: Bool[Array, " b"], axis_name: str | None
) -> tuple[Float[Array, "d d"], Float[Array, "e e"], Float[Array, "d e"]]:
    """Student, teacher and cross-covariance, divided by n − 1; constant channels are exactly 0."""
    (s, _, n), (t, _, _) = (centered(x[:, None], where, axis_name) for x in (student, teacher))
    s, t = s[:, 0], t[:, 0]

    def between(x, y):
        return summed(inner(x.T, y.T), axis_name) / jnp.maximum(n - 1, 1)

    return between(s, s), between(t, t), between(s, t)


def above_rounding(values: Float[Array, " d"]) -> Bool[Array, " d"]:
    """Mask of the eigenvalues of a positive semidefinite matrix that exceed rounding error."""
    return values > 8 * len(values) * float(jnp.finfo(values.dtype).eps) * jnp.max(values)
