"""Student and teacher rows as point clouds."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.collectives import summed
from mmkd_jax.numeric import inner, zero_rows


def clouds(
    student: Float[Array, "b d"], teacher: Float[Array, "b d"], where: Bool[Array, " b"], axis_name: str | None
) -> tuple[Float[Array, "b d"], Float[Array, "b d"], Float[Array, ""]]:
    """Center both sides on their common mean; return them and the mean squared pairwise distance.

    Centering keeps squared distances accurate. The mean is over all pairs of rows of either side, self-pairs included;
    it is 1 if all rows are equal.
    """
    s, t = (zero_rows(x, where) for x in (student, teacher))
    n = jnp.maximum(summed(jnp.sum(where), axis_name), 1).astype(s.dtype)
    mean = summed(jnp.sum(s + t, 0), axis_name) / (2 * n)
    s, t = (zero_rows(x - mean[None], where) for x in (s, t))
    unit = summed(jnp.sum(s * s) + jnp.sum(t * t), axis_name) / n
    return s, t, jnp.where(unit > 0, unit, 1)


def squares(x: Float[Array, "b d"], y: Float[Array, "n d"]) -> Float[Array, "b n"]:
    """Pairwise squared distances ‖x_i − y_j‖²."""
    return jnp.sum(x * x, -1)[:, None] + jnp.sum(y * y, -1)[None] - 2 * inner(x, y)
