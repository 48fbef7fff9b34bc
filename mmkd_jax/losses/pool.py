"""Feature maps brought to one size."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def average_pool(x: Float[Array, "b *n c"], size: tuple[int, ...]) -> Float[Array, "b *m c"]:
    """Means over windows, as many as `size` says: an axis of n is cut at ⌊i n / m⌋ and ⌈(i + 1) n / m⌉.

    Example:
        >>> average_pool(jnp.arange(6.0).reshape(1, 6, 1, 1), (2, 1))[0, :, 0, 0]
        Array([1., 4.], dtype=float32)
    """
    for axis, (n, m) in enumerate(zip(x.shape[1:-1], size, strict=True), 1):
        if n != m:
            windows = jnp.asarray(_windows(n, m), x.dtype)
            x = jnp.moveaxis(jnp.tensordot(windows, x, (1, axis), precision="highest"), 0, axis)
    return x


def _windows(n: int, m: int) -> np.ndarray:
    """[m, n]: each row a mean over one window."""
    i, place = np.arange(m)[:, None], np.arange(n)[None]
    inside = (place >= i * n // m) & (place < -(-(i + 1) * n // m))
    return inside / inside.sum(1, keepdims=True)
