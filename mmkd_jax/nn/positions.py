"""Sinusoidal position embeddings."""

import numpy as np
from jaxtyping import Float


def sinusoids(length: int, dim: int) -> Float[np.ndarray, "l d"]:
    """Return position embeddings: sines, then cosines, with wavelengths 2π … 20 000 π in geometric progression.

    They depend on the index alone: neither padding nor the number of positions moves one.

    Args:
        length: number of positions.
        dim: their dimension; if odd, the longest wavelength has a sine only.

    Source: Vaswani et al., Attention Is All You Need, 2017, https://arxiv.org/abs/1706.03762

    Example:
        >>> sinusoids(2, 4)[0].tolist()
        [0.0, 0.0, 1.0, 1.0]
    """
    angles = np.arange(length)[:, None] * np.geomspace(1, 1e-4, -(-dim // 2))
    return np.concatenate([np.sin(angles), np.cos(angles)], 1)[:, :dim].astype(np.float32)
