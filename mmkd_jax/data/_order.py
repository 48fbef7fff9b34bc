"""Shuffling as a pure function of (key, position), bit-identical in NumPy and JAX.

Each epoch is a keyed permutation of the rows: a Feistel network over uint32 with cycle walking. The cost per batch is
O(batch), where `jax.random.permutation` would sort all rows at every step.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Shaped, UInt32

_ROUNDS = 6


def order(
    words: UInt32[Array | np.ndarray, " w"], position: Shaped[Array | np.ndarray, " b"], n: int
) -> tuple[Int[Array | np.ndarray, " b"], Int[Array | np.ndarray, " b"]]:
    """Return the row indices at the given positions of an endless shuffled sequence.

    Formula: position p is in epoch ⌊p / n⌋ and maps to row π_epoch(p mod n), with π_epoch a keyed permutation.

    Args:
        words: key data, uint32; `jax.random.key_data(key)` or `np.array([0, seed], np.uint32)`.
        position: step · batch size + arange(batch size); NumPy in, NumPy out.
        n: number of rows.

    Returns:
        Row indices and epochs, both int32.

    Example:
        >>> rows, epochs = order(np.array([0, 7], np.uint32), np.arange(8), 4)
        >>> sorted(rows[:4].tolist()), sorted(rows[4:].tolist()), epochs.tolist()
        ([0, 1, 2, 3], [0, 1, 2, 3], [0, 0, 0, 0, 1, 1, 1, 1])
    """
    xp = np if isinstance(position, np.ndarray) else jnp
    position = position.astype(xp.uint32)
    count = np.array([n], np.uint32)
    epoch, x = position // count, position % count
    key = mix(mix(words[0:1] ^ mix(words[-1:])) + epoch)
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    mask = np.array([(1 << half) - 1], np.uint32)

    def permute(x):
        left, right = x >> np.uint32(half), x & mask
        for i in range(_ROUNDS):
            left, right = right, left ^ (mix(right ^ mix(key + np.array([i + 1], np.uint32))) & mask)
        return (left << np.uint32(half)) | right

    x = permute(x)
    if xp is np:
        while (outside := x >= count).any():
            x = np.where(outside, permute(x), x)
    else:
        x = jax.lax.while_loop(lambda x: jnp.any(x >= count), lambda x: jnp.where(x >= count, permute(x), x), x)
    return x.astype(xp.int32), epoch.astype(xp.int32)


def mix(x: UInt32[Array | np.ndarray, "*n"]) -> UInt32[Array | np.ndarray, "*n"]:
    """MurmurHash3 finalizer: every input bit affects every output bit."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> np.uint32(shift))) * np.array([factor], np.uint32)
    return x ^ (x >> np.uint32(16))
