"""Read and set the hyperparameters in an objective state, by dotted name."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from mmkd_jax.errors import UserError, choices


def hyperparams_of(state: Any, prefix: str = "") -> dict[str, Any]:
    """Return an objective state's hyperparameters by dotted name, such as `{"soft.temperature": 4.0, …}`."""
    hyperparams = {}
    for name, value in state.items() if isinstance(state, Mapping) else ():
        if name == "hyperparams":
            hyperparams |= {prefix + k: v for k, v in value.items()}
        else:
            hyperparams |= hyperparams_of(value, f"{prefix}{name}.")
    return hyperparams


def with_hyperparams(state: Any, values: Mapping[str, Any]) -> Any:
    """Return the objective state with some hyperparameters set, by the names of `hyperparams_of`.

    Raises:
        UserError: an unknown name, with the list of existing names; or a value that is not finite.
    """
    if unknown := set(values) - set(hyperparams_of(state)):
        raise UserError(
            f"the objective has no hyperparameter {choices(unknown)} (change schedules in the file); "
            f"it has: {choices(hyperparams_of(state))}"
        )

    for name, x in values.items():
        if isinstance(x, (int, float, np.generic)) and not np.isfinite(x):
            raise UserError(f"{name} is {x}; expected a finite number")

    def put(node, prefix):
        if not isinstance(node, Mapping):
            return node
        return {
            k: {n: _float32(values.get(prefix + n, x)) for n, x in v.items()}
            if k == "hyperparams"
            else put(v, f"{prefix}{k}.")
            for k, v in node.items()
        }

    return put(state, "")


def _float32(x):
    """Keep a known value concrete, so that losses can validate it."""
    known = isinstance(x, (int, float, np.generic))
    return np.float32(x) if known else jnp.asarray(x, jnp.float32)
