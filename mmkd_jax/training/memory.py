"""Memory of a training: what cannot fit is refused from shapes alone; running out of it is one line."""

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from mmkd_jax.core.sharding import is_bank
from mmkd_jax.errors import UserError


def readable(size: int) -> str:
    """Format a number of bytes in MiB, GiB or TiB.

    Example:
        >>> readable(3 * 2**20), readable(5 * 2**40)
        ('3.0 MiB', '5.0 TiB')
    """
    unit, name = (2**20, "MiB") if size < 2**30 else (2**30, "GiB") if size < 2**40 else (2**40, "TiB")
    return f"{size / unit:.1f} {name}"


def device_memory() -> int:
    """Return the bytes of memory of a device; for a CPU, its share of the machine's."""
    known = jax.local_devices()[0].memory_stats() or {}
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(known.get("bytes_limit", 0)) or whole // jax.local_device_count()


def check_memory(state: Any, frozen: Any) -> None:
    """Raise if the arrays that every step needs are larger than the memory of a device.

    Args:
        state: shapes of the training's state.
        frozen: shapes of the variables of its frozen models.

    Raises:
        UserError: names what is needed, the memory, and the largest array.
    """
    leaves = jax.tree.leaves_with_path((state, frozen))
    # the rows of a bank are sharded over the devices
    sizes = [math.prod(x.shape) * _itemsize(x) // (jax.device_count() if is_bank(p, x) else 1) for p, x in leaves]
    needed, capacity = sum(sizes), device_memory()
    if needed > capacity:
        path, x = leaves[sizes.index(max(sizes))]
        name = jax.tree_util.keystr(path[1:], simple=True, separator=".")
        raise UserError(
            f"parameters, optimizer state and frozen models need {readable(needed)}, but a device has "
            f"{readable(capacity)}; the largest array is {name} {x.dtype}{list(x.shape)}: use smaller models"
        )


@contextlib.contextmanager
def out_of_memory_reported(doing: str, needs: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Convert XLA's error to a one-line `UserError`.

    Args:
        doing: what was computed, such as "a step of 128 rows".
        needs: `() -> str`, the memory that it needs, if known.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error) and "ut of memory" not in str(error):
            raise
        known = needs()
        raise UserError(
            f"a device ran out of memory in {doing}{f': {known}' if known else ''}. Use smaller batches or models, "
            "microbatches=2 or more, nn.remat in the models, or more devices"
        ) from error


def _itemsize(x: Any) -> int:
    return 8 if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else np.dtype(x.dtype).itemsize
