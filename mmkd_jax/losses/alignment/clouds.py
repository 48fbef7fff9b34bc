"""The rows of a batch as two clouds of points."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.gather import summed
from mmkd_jax.losses.numeric import inner, zero_rows


def clouds(
    student: Float[Array, "b d"], teacher: Float[Array, "b d"], where: Bool[Array, " b"], axis: str | None
) -> tuple[Float[Array, "b d"], Float[Array, "b d"], Float[Array, ""]]:
    """Both minus their common mean, so that squares of distances lose no digits; and the mean square of a distance.

    The mean is over all pairs of rows of either side, a row with itself included; where all rows are one, it is 1.
    """
    s, t = (zero_rows(x, where) for x in (student, teacher))
    n = jnp.maximum(summed(jnp.sum(where), axis), 1).astype(s.dtype)
    mean = summed(jnp.sum(s + t, 0), axis) / (2 * n)
    s, t = (zero_rows(x - mean[None], where) for x in (s, t))
    unit = summed(jnp.sum(s * s) + jnp.sum(t * t), axis) / n
    return s, t, jnp.where(unit > 0, unit, 1)


def squares(x: Float[Array, "b d"], y: Float[Array, "n d"]) -> Float[Array, "b n"]:
    """‖x_i − y_j‖²."""
    return jnp.sum(x * x, -1)[:, None] + jnp.sum(y * y, -1)[None] - 2 * inner(x, y)
