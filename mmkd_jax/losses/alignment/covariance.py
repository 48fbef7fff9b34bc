"""Covariances over the global batch, and their directions."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.gather import centred, summed
from mmkd_jax.losses.numeric import inner


def covariances(
    student: Float[Array, "b d"], teacher: Float[Array, "b e"], where: Bool[Array, " b"], axis: str | None
) -> tuple[Float[Array, "d d"], Float[Array, "e e"], Float[Array, "d e"]]:
    """Of the student, of the teacher, and between the two, of n − 1; channels that do not vary are exactly 0."""
    (s, _, n), (t, _, _) = (centred(x[:, None], where, axis) for x in (student, teacher))
    s, t = s[:, 0], t[:, 0]

    def between(x, y):
        return summed(inner(x.T, y.T), axis) / jnp.maximum(n - 1, 1)

    return between(s, s), between(t, t), between(s, t)


def there(values: Float[Array, " d"]) -> Bool[Array, " d"]:
    """Which eigenvalues of a positive matrix are more than rounding makes of 0."""
    return values > 8 * len(values) * float(jnp.finfo(values.dtype).eps) * jnp.max(values)
