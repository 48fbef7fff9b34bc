"""The other devices' rows, for losses that couple rows."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num, Shaped

from mmkd_jax.losses.numeric import zero_rows


def gather(x: Shaped[Array, "b ..."], axis: str | None) -> tuple[Shaped[Array, "n ..."], Shaped[Array, ""] | int]:
    """All devices' rows, with their gradient, and the place of this device's first row among them.

    Args:
        x: this device's rows.
        axis: the device axis of the per-device forms; None where the whole batch is there already.

    Example:
        >>> rows, first = gather(jax.numpy.ones((2, 3)), None)
        >>> rows.shape, first
        ((2, 3), 0)
    """
    if axis is None:
        return x, 0
    return jax.lax.all_gather(x, axis, tiled=True), jax.lax.axis_index(axis) * len(x)


def summed(x: Num[Array, "..."], axis: str | None) -> Num[Array, "..."]:
    """The sum over all devices of what each has summed over its own rows."""
    return x if axis is None else jax.lax.psum(x, axis)


def centred(
    x: Float[Array, "b p c"], where: Bool[Array, " b"], axis: str | None
) -> tuple[Float[Array, "b p c"], Float[Array, " c"], Float[Array, ""]]:
    """The differences to each channel's mean over the rows that count and all positions; 0 in the other rows.

    A channel that is constant up to rounding has differences that are exactly 0, and no gradient: dividing by their
    size would make a direction of that noise.

    Returns:
        The differences, the sum of their squares in each channel, and the number of entries that a mean is over.
    """
    x = zero_rows(x, where)
    n = jnp.maximum(summed(jnp.sum(where), axis) * x.shape[1], 1).astype(x.dtype)
    gap = zero_rows(x - (summed(jnp.sum(x, (0, 1)), axis) / n)[None, None], where)
    square, spread = (summed(jnp.sum(v * v, (0, 1)), axis) for v in (x, gap))
    constant = spread <= (8 * float(jnp.finfo(x.dtype).eps)) ** 2 * square
    return jnp.where(constant[None, None], 0, gap), jnp.where(constant, 0, spread), n
