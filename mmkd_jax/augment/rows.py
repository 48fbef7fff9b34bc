"""Building blocks of augmentations: per-row keys, and bit-reproducible draws and arithmetic.

Compilers may or may not contract a · b + c to a fused multiply-add, which differs between programs. Values that must be
bit-equal in a teacher cache and in training are therefore drawn and computed as integers, or as floats with exact
products.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Num

from mmkd_jax.core.model import Batch
from mmkd_jax.errors import UserError, choices

STEPS = 1024
"""Fractions are drawn in steps of 1 / STEPS."""
LEVEL = 256
"""Steps between two gray levels in the fixed-point arithmetic of images."""
SHARES = 256
"""Mixing weights λ are drawn in steps of 1 / SHARES."""


def row_keys(batch: Batch, seed: int) -> Key[Array, " b"]:
    """Return a key for each row, independent of the batch that contains it.

    Formula: fold_in(fold_in(key(seed), example_id), view_index)

    Args:
        batch: batch with example_id and view_index, int32 [b].
        seed: augmentation seed, independent of the run's seed.

    Raises:
        UserError: the batch has no example_id or no view_index.

    Example:
        >>> row_keys({"example_id": jnp.array([3, 4]), "view_index": jnp.array([0, 0])}, seed=0).shape
        (2,)
    """
    if missing := {"example_id", "view_index"} - set(batch):
        raise UserError(
            f"augmentation needs the batch column {choices(missing)} (added by data.InMemory and data.GrainLoader); "
            f"available: {choices(batch)}"
        )
    root = jax.random.key(seed)
    fold = jax.vmap(lambda i, view_index: jax.random.fold_in(jax.random.fold_in(root, i), view_index))
    return fold(jnp.asarray(batch["example_id"]), jnp.asarray(batch["view_index"]))


def column(batch: Batch, name: str, step: object) -> Array:
    """Return a batch column as a JAX array.

    Raises:
        UserError: the batch lacks the column; the message names the augmentation.
    """
    if name not in batch:
        raise UserError(f"{step} needs {name!r}, missing from the batch; available: {choices(batch)}")
    return jnp.asarray(batch[name])


def mask_of(batch: Batch, modality: str, x: Num[Array, "b l ..."]) -> Bool[Array, "b l"]:
    """Return the mask of a sequence: `M.mask`, or all True."""
    return jnp.asarray(batch.get(f"{modality}.mask", jnp.ones(x.shape[:2], bool)))


def check_share(step: object, **values: int | float) -> None:
    """Raise UserError for values outside [0, 1]."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise UserError(f"{type(step).__name__}: {name} must be between 0 and 1, not {value}")


def check_size(step: object, least: int = 0, **values: int) -> None:
    """Raise UserError for values that are not integers of at least `least`."""
    for name, value in values.items():
        if not isinstance(value, int) or value < least:
            raise UserError(f"{type(step).__name__}: {name} must be an integer of at least {least}, not {value!r}")


def check_range(step: object, **values: tuple[int | float, int | float]) -> None:
    """Raise UserError for values that are not a tuple (low, high)."""
    for name, value in values.items():
        if not isinstance(value, tuple) or len(value) != 2 or not value[0] <= value[1]:
            raise UserError(f"{type(step).__name__}: {name} must be (low, high), not {value!r}")


def in_steps(value: int | float, steps: int = STEPS) -> int:
    """Round a number to steps of 1 / steps."""
    return round(value * steps)


def draw_steps(
    key: Key[Array, ""], low: int | float, high: int | float, shape: tuple[int, ...] = ()
) -> Int[Array, "..."]:
    """Draw uniformly from low … high, inclusive, in units of 1 / STEPS."""
    return jax.random.randint(key, shape, in_steps(low), in_steps(high) + 1)


def draw_value(
    key: Key[Array, ""], low: int | float, high: int | float, function: Callable[[np.ndarray], np.ndarray]
) -> Float[Array, ""]:
    """Draw f(u), u uniform in low … high in steps of 1 / STEPS, from a precomputed table.

    Example:
        >>> draw_value(jax.random.key(0), 20, 20, lambda db: 10 ** (db / 20))
        Array(10., dtype=float32)
    """
    steps = np.arange(in_steps(low), in_steps(high) + 1)
    table = jnp.asarray(function(steps / STEPS), jnp.float32)
    return table[draw_steps(key, low, high) - int(steps[0])]


def chance(key: Key[Array, ""], rate: int | float, shape: tuple[int, ...] = ()) -> Bool[Array, "..."]:
    """Draw True with probability `rate`."""
    return jax.random.uniform(key, shape) < rate


@functools.cache
def _thresholds(alpha: int | float) -> np.ndarray:
    from scipy.special import betainc

    edges = (np.arange(SHARES) + 0.5) / SHARES
    return np.minimum(np.round(betainc(alpha, alpha, edges) * 2.0**32), 2**32 - 1).astype(np.uint32)


def draw_share(key: Key[Array, ""], alpha: int | float) -> Int[Array, ""]:
    """Draw λ ~ Beta(α, α) as an integer 0 … SHARES, in units of 1 / SHARES, by inverting the quantized CDF.

    Example:
        >>> bool(0 <= draw_share(jax.random.key(0), 0.2) <= SHARES)
        True
    """
    u = jax.random.bits(key, (), jnp.uint32)
    return jnp.sum(u >= jnp.asarray(_thresholds(alpha)), dtype=jnp.int32)


def mixed(x: Num[Array, "*n"], other: Num[Array, "*n"], share: Int[Array, ""]) -> Float[Array, "*n"]:
    """Return λ x + (1 − λ) x' with λ in units of 1 / SHARES; uint8 is scaled to [0, 1].

    Exact except for one rounding per sum.

    Example:
        >>> mixed(jnp.array([8.0]), jnp.array([4.0]), jnp.int32(64))
        Array([5.], dtype=float32)
    """
    rest = SHARES - share
    if jnp.issubdtype(x.dtype, jnp.integer):
        whole = x.astype(jnp.int32) * share + other.astype(jnp.int32) * rest
        return to_unit(whole, 255 * SHARES)
    a, b = (s.astype(x.dtype) / SHARES for s in (share, rest))
    if x.dtype != jnp.float32:  # bfloat16: computed in float32, where the products are exact
        wide = mixed(x.astype(jnp.float32), other.astype(jnp.float32), share)
        return wide.astype(x.dtype)
    (x1, x2), (y1, y2) = _halves(x), _halves(other)
    blend = (x1 * a + y1 * b) + (x2 * a + y2 * b)
    # λ = 0 and λ = 1 return one input exactly, even if the other is not finite
    return jnp.where(share == SHARES, x, jnp.where(share == 0, other, blend))


def to_unit(x: Int[Array, "*n"], one: int) -> Float[Array, "*n"]:
    """Scale integers 0 … one to [0, 1], by a product: compilers may or may not replace a division by one."""
    return x.astype(jnp.float32) * jnp.float32(1 / one)


def _halves(x):
    """Split x into a sum of two numbers with half the mantissa bits, whose products with λ are exact."""
    bits = jax.lax.bitcast_convert_type(x, jnp.int32) & jnp.int32(-4096)
    high = jax.lax.bitcast_convert_type(bits, jnp.float32)
    return high, x - high


def total(x: Float[Array, "n ..."]) -> Float[Array, "..."]:
    """Sum over the first axis by pairwise halving, in a fixed order.

    Example:
        >>> total(jnp.arange(5.0))
        Array(10., dtype=float32)
    """
    while len(x) > 1:
        if len(x) % 2:
            x = jnp.concatenate([x, jnp.zeros_like(x[:1])])
        x = x[: len(x) // 2] + x[len(x) // 2 :]
    return x[0]


def in_order(mask: Bool[Array, " l"]) -> Int[Array, " l"]:
    """Return the indices where the mask is True, in order, then the others.

    Example:
        >>> in_order(jnp.array([False, True, True])).tolist()
        [1, 2, 0]
    """
    return jnp.argsort(~mask, stable=True)


def each(function: Callable, *columns: Array) -> Array:
    """Map a function of one row over all rows."""
    return jax.vmap(function)(*columns)
