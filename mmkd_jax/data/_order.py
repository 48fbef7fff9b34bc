"""Shuffling as a pure function of (key, position), bit-identical in NumPy and JAX.

Each epoch is a keyed permutation of the rows: a Feistel network over uint32 with cycle walking. The cost per batch is
O(batch), where `jax.random.permutation` would sort all rows at every step.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Shaped, UInt32

from mmkd_jax.errors import UserError

_ROUNDS = 6


def first_position(
    step: Int[Array, ""] | int, batch_size: int, n: int
) -> tuple[UInt32[Array | np.ndarray, "1"], UInt32[Array | np.ndarray, "1"]]:
    """Return the epoch in which a step starts, and its position there: (step · batch_size) divided by n, exactly.

    The product of two 31-bit numbers does not fit into JAX's 32 bits: the step is divided digit by digit, as on paper,
    with as many bits a digit as fit beside a remainder below n.

    Args:
        step: number of the step, below 2³¹; NumPy or Python in, NumPy out.
        batch_size: rows per batch, below 2³¹.
        n: number of rows, below 2³¹.

    Example:
        >>> [x.item() for x in first_position(2_000_000_000, 4_096, 60_000)]
        [136533333, 20000]
    """
    xp = jnp if isinstance(step, jax.Array) else np
    number = xp.asarray(step).reshape(1).astype(xp.uint32)
    whole, rest, count = (np.array([x], np.uint32) for x in (*divmod(batch_size, n), n))
    bits = 32 - n.bit_length()
    epoch = remainder = xp.zeros(1, xp.uint32)
    for digit in reversed(range(-(-31 // bits))):
        value = (number >> np.array([digit * bits], np.uint32)) & np.array([(1 << bits) - 1], np.uint32)
        high, low = remainder << np.array([bits], np.uint32), value * rest  # both below 2³²
        both = high % count + low % count
        epoch = (epoch << np.array([bits], np.uint32)) + high // count + low // count + both // count
        remainder = both % count
    return epoch + number * whole, remainder


def order(
    words: UInt32[Array | np.ndarray, " w"],
    position: Shaped[Array | np.ndarray, " b"],
    n: int | UInt32[Array | np.ndarray, "1"],
    epoch: UInt32[Array | np.ndarray, "1"] | int = 0,
) -> tuple[Int[Array | np.ndarray, " b"], Int[Array | np.ndarray, " b"]]:
    """Return the row indices at the given positions of an endless shuffled sequence.

    Formula: position p is in epoch ⌊p / n⌋ and maps to row π_epoch(p mod n), with π_epoch a keyed permutation.

    Args:
        words: key data, uint32; `jax.random.key_data(key)` or `np.array([0, seed], np.uint32)`.
        position: positions, counted from the first row of `epoch`; NumPy in, NumPy out.
        n: number of rows; an array if the position decides about it, as in `_topics`.
        epoch: epoch in which the positions start, see `first_position`.

    Returns:
        Row indices and epochs, both int32.

    Example:
        >>> rows, epochs = order(np.array([0, 7], np.uint32), np.arange(8), 4)
        >>> sorted(rows[:4].tolist()), sorted(rows[4:].tolist()), epochs.tolist()
        ([0, 1, 2, 3], [0, 1, 2, 3], [0, 0, 0, 0, 1, 1, 1, 1])
    """
    xp = np if isinstance(position, np.ndarray) else jnp
    position = position.astype(xp.uint32)
    count = np.array([n], np.uint32) if isinstance(n, int) else n
    epoch, x = position // count + xp.asarray(epoch).astype(xp.uint32), position % count
    key = mix(mix(words[0:1] ^ mix(words[-1:])) + epoch)
    if isinstance(n, int):
        half = np.uint32(max(1, ((n - 1).bit_length() + 1) // 2))
        mask = np.array([(1 << int(half)) - 1], np.uint32)
    else:
        half = 1 + (n - 1 >= np.uint32(4) ** np.arange(1, 16, dtype=np.uint32)).sum(dtype=np.uint32, keepdims=True)
        mask = (np.array([1], np.uint32) << half) - 1

    def permute(x):
        left, right = x >> half, x & mask
        for i in range(_ROUNDS):
            left, right = right, left ^ (mix(right ^ mix(key + np.array([i + 1], np.uint32))) & mask)
        return (left << half) | right

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


def check_seed(seed: int) -> None:
    """Raise for seeds that the loaders would interpret differently."""
    if not 0 <= seed < 2**32:
        raise UserError(f"seed is {seed}; expected 0 … {2**32 - 1}")
