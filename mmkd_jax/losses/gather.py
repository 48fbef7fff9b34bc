"""The other devices' rows, for losses that couple rows."""

import jax
from jaxtyping import Array, Shaped


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
