"""The numbers that an objective remembers, by dotted name: read them, set them."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from mmkd_jax.errors import UserError, choices


def numbers(memory: Any, prefix: str = "") -> dict[str, Any]:
    """The numbers that an objective remembers, by dotted name: `{"soft.temperature": 4.0, "soft.weight": 1.0, …}`."""
    found = {}
    for name, value in memory.items() if isinstance(memory, Mapping) else ():
        if name == "numbers":
            found |= {prefix + k: v for k, v in value.items()}
        else:
            found |= numbers(value, f"{prefix}{name}.")
    return found


def with_numbers(memory: Any, values: Mapping[str, Any]) -> Any:
    """The memory with some numbers set, by the names that `numbers` gives.

    Raises:
        UserError: no such number; the message lists those that exist. Or one that is not finite.
    """
    if unknown := set(values) - set(numbers(memory)):
        raise UserError(
            f"the objective has no number {choices(unknown)} (schedules are changed in the file); "
            f"it has: {choices(numbers(memory))}"
        )

    for name, x in values.items():
        if isinstance(x, (int, float, np.generic)) and not np.isfinite(x):
            raise UserError(f"{name} is {x}; expected a finite number")

    def put(node, prefix):
        if not isinstance(node, Mapping):
            return node
        return {
            k: {n: _float32(values.get(prefix + n, x)) for n, x in v.items()}
            if k == "numbers"
            else put(v, f"{prefix}{k}.")
            for k, v in node.items()
        }

    return put(memory, "")


def _float32(x):
    """A number that is known stays so, for losses to refuse it where they cannot take it."""
    known = isinstance(x, (int, float, np.generic))
    return np.float32(x) if known else jnp.asarray(x, jnp.float32)
