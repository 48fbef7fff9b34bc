"""Hyperparameters of methods that transform the outputs first: attacked or noisy inputs, generated text."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mmkd_jax.core.objective import Objective


def with_method_hyperparams(terms: Objective, transform: Callable[..., Any], **hyperparams: Any) -> Objective:
    """Apply an objective to transformed outputs, with the transform's hyperparameters in the objective state.

    Args:
        terms: the objective; none of its terms can be named "hyperparams".
        transform: `(outputs, hyperparams) -> outputs`.
        **hyperparams: the method's hyperparameters, added to those of the terms. The field of an argument has a dotted
            name: `attack.eps`.
    """
    added = {k: np.float32(v) for k, v in hyperparams.items()}

    def init(outputs):
        params, state = terms.init(transform(outputs, added))
        return params, state | {"hyperparams": state.get("hyperparams", {}) | added}

    def apply(params, state: Mapping[str, Any], outputs):
        every = state["hyperparams"]
        inner = {**state, "hyperparams": {k: v for k, v in every.items() if k not in added}}
        out, after = terms.apply(params, inner, transform(outputs, every))
        return out, after | {"hyperparams": every}

    return Objective(init, apply)
