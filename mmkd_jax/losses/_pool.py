"""Adaptive average pooling of feature maps."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def average_pool(x: Float[Array, "b *n c"], size: tuple[int, ...]) -> Float[Array, "b *m c"]:
    """Adaptive average pooling to `size`: window i of m on an axis of length n is ⌊i n / m⌋ … ⌈(i + 1) n / m⌉ − 1.

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
    """Return the pooling matrix [m, n]; each row averages one window."""
    i, position = np.arange(m)[:, None], np.arange(n)[None]
    inside = (position >= i * n // m) & (position < -(-(i + 1) * n // m))
    return inside / inside.sum(1, keepdims=True)
