"""What augmentations are made of: a key for each row, draws and arithmetic that give the same bits everywhere.

Compilers contract a · b + c as they like, with or without rounding in between, and differ from program to program. What
must be bit-equal in a teacher's cache and in training is therefore drawn as integers and computed in integers, or in
floats whose products are exact.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Num

from mmkd_jax.errors import UserError, choices
from mmkd_jax.views import Batch

STEPS = 1024
"""Fractions are drawn in steps of 1 / STEPS."""
LEVEL = 256
"""Steps between two grey levels in the fixed-point arithmetic of pictures."""
SHARES = 256
"""λ of a mixture is drawn in steps of 1 / SHARES."""


def row_keys(batch: Batch, seed: int) -> Key[Array, " b"]:
    """A key for each row, whatever batch it stands in.

    Formula: fold_in(fold_in(key(seed), example_id), slot)

    Args:
        batch: with example_id and slot, int32 [b].
        seed: of the augmentation, which is not the run's.

    Raises:
        UserError: the batch has no example_id or no slot.

    Example:
        >>> row_keys({"example_id": jnp.array([3, 4]), "slot": jnp.array([0, 0])}, seed=0).shape
        (2,)
    """
    if missing := {"example_id", "slot"} - set(batch):
        raise UserError(
            f"augmentation needs the column {choices(missing)} of the batch (data.Memory and data.Pipeline give both); "
            f"it has: {choices(batch)}"
        )
    root = jax.random.key(seed)
    own = jax.vmap(lambda i, slot: jax.random.fold_in(jax.random.fold_in(root, i), slot))
    return own(jnp.asarray(batch["example_id"]), jnp.asarray(batch["slot"]))


def column(batch: Batch, name: str, step: object) -> Array:
    """A column as an array of JAX.

    Raises:
        UserError: the batch lacks it; the message names the augmentation.
    """
    if name not in batch:
        raise UserError(f"{step} needs {name!r}, which the batch lacks; it has: {choices(batch)}")
    return jnp.asarray(batch[name])


def mask_of(batch: Batch, modality: str, x: Num[Array, "b l ..."]) -> Bool[Array, "b l"]:
    """Which places of a sequence there are: `M.mask`, or all."""
    return jnp.asarray(batch.get(f"{modality}.mask", jnp.ones(x.shape[:2], bool)))


def check_share(step: object, **values: int | float) -> None:
    """Refuse what is no probability."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise UserError(f"{type(step).__name__}: {name} must be between 0 and 1, not {value}")


def check_size(step: object, least: int = 0, **values: int) -> None:
    """Refuse what is no whole number, or smaller than `least`."""
    for name, value in values.items():
        if not isinstance(value, int) or value < least:
            raise UserError(f"{type(step).__name__}: {name} must be a whole number of at least {least}, not {value!r}")


def check_range(step: object, **values: tuple[int | float, int | float]) -> None:
    """Refuse what is no (low, high)."""
    for name, value in values.items():
        if not isinstance(value, tuple) or len(value) != 2 or not value[0] <= value[1]:
            raise UserError(f"{type(step).__name__}: {name} must be (low, high), not {value!r}")


def in_steps(value: int | float, steps: int = STEPS) -> int:
    """A number in whole steps."""
    return round(value * steps)


def draw_steps(
    key: Key[Array, ""], low: int | float, high: int | float, shape: tuple[int, ...] = ()
) -> Int[Array, "..."]:
    """Uniform in low … high, both included, in steps of 1 / STEPS."""
    return jax.random.randint(key, shape, in_steps(low), in_steps(high) + 1)


def draw_value(
    key: Key[Array, ""], low: int | float, high: int | float, function: Callable[[np.ndarray], np.ndarray]
) -> Float[Array, ""]:
    """A function of a number that is uniform in low … high, in steps of 1 / STEPS: looked up in a table.

    Example:
        >>> draw_value(jax.random.key(0), 20, 20, lambda db: 10 ** (db / 20))
        Array(10., dtype=float32)
    """
    steps = np.arange(in_steps(low), in_steps(high) + 1)
    table = jnp.asarray(function(steps / STEPS), jnp.float32)
    return table[draw_steps(key, low, high) - int(steps[0])]


def chance(key: Key[Array, ""], rate: int | float, shape: tuple[int, ...] = ()) -> Bool[Array, "..."]:
    """True with probability `rate`."""
    return jax.random.uniform(key, shape) < rate


@functools.cache
def _thresholds(alpha: int | float) -> np.ndarray:
    from scipy.special import betainc

    edges = (np.arange(SHARES) + 0.5) / SHARES
    return np.minimum(np.round(betainc(alpha, alpha, edges) * 2.0**32), 2**32 - 1).astype(np.uint32)


def draw_share(key: Key[Array, ""], alpha: int | float) -> Int[Array, ""]:
    """λ ~ Beta(α, α), rounded to steps of 1 / SHARES: an integer 0 … SHARES, by comparison with the distribution.

    Example:
        >>> bool(0 <= draw_share(jax.random.key(0), 0.2) <= SHARES)
        True
    """
    u = jax.random.bits(key, (), jnp.uint32)
    return jnp.sum(u >= jnp.asarray(_thresholds(alpha)), dtype=jnp.int32)


def mixed(x: Num[Array, "*n"], other: Num[Array, "*n"], share: Int[Array, ""]) -> Float[Array, "*n"]:
    """λ x + (1 − λ) x', λ in steps of 1 / SHARES; uint8 as [0, 1]. Exact but for one rounding of each sum.

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
    # an end of the range is the row itself, also where the other is not finite
    return jnp.where(share == SHARES, x, jnp.where(share == 0, other, blend))


def to_unit(x: Int[Array, "*n"], one: int) -> Float[Array, "*n"]:
    """Whole numbers 0 … one as [0, 1]: by a product, as a compiler may or may not make one of a division."""
    return x.astype(jnp.float32) * jnp.float32(1 / one)


def _halves(x):
    """x as a sum of two numbers with half the digits, whose products with λ are exact."""
    bits = jax.lax.bitcast_convert_type(x, jnp.int32) & jnp.int32(-4096)
    high = jax.lax.bitcast_convert_type(bits, jnp.float32)
    return high, x - high


def total(x: Float[Array, "n ..."]) -> Float[Array, "..."]:
    """The sum over the first axis, by halves: always in one order.

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
    """The places under the mask, first to last, then the others.

    Example:
        >>> in_order(jnp.array([False, True, True])).tolist()
        [1, 2, 0]
    """
    return jnp.argsort(~mask, stable=True)


def each(function: Callable, *columns: Array) -> Array:
    """A function of one row over all rows."""
    return jax.vmap(function)(*columns)
