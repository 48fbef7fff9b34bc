"""Collectives over devices, for losses that couple rows."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num, Shaped

from mmkd_jax.numeric import zero_rows


def gather(x: Shaped[Array, "b ..."], axis_name: str | None) -> tuple[Shaped[Array, "n ..."], Shaped[Array, ""] | int]:
    """Gather the rows of all devices, differentiably, and return the index of this device's first row.

    Args:
        x: this device's rows.
        axis_name: device axis inside `shard_map` or `pmap`; None if x is the whole batch already.

    Example:
        >>> rows, first = gather(jax.numpy.ones((2, 3)), None)
        >>> rows.shape, first
        ((2, 3), 0)
    """
    if axis_name is None:
        return x, 0
    return jax.lax.all_gather(x, axis_name, tiled=True), jax.lax.axis_index(axis_name) * len(x)


def summed(x: Num[Array, "..."], axis_name: str | None) -> Num[Array, "..."]:
    """Sum per-device sums over all devices (`jax.lax.psum`)."""
    return x if axis_name is None else jax.lax.psum(x, axis_name)


def centered(
    x: Float[Array, "b p c"], where: Bool[Array, " b"], axis_name: str | None
) -> tuple[Float[Array, "b p c"], Float[Array, " c"], Float[Array, ""]]:
    """Subtract each channel's mean over valid rows and all positions; invalid rows become 0.

    Channels that are constant up to rounding become exactly 0, without gradient: normalizing them would amplify
    rounding noise.

    Returns:
        The deviations, their sum of squares per channel, and the number of entries that each mean is taken over.
    """
    x = zero_rows(x, where)
    n = jnp.maximum(summed(jnp.sum(where), axis_name) * x.shape[1], 1).astype(x.dtype)
    gap = zero_rows(x - (summed(jnp.sum(x, (0, 1)), axis_name) / n)[None, None], where)
    square, spread = (summed(jnp.sum(v * v, (0, 1)), axis_name) for v in (x, gap))
    constant = spread <= (8 * float(jnp.finfo(x.dtype).eps)) ** 2 * square
    return jnp.where(constant[None, None], 0, gap), jnp.where(constant, 0, spread), n
