"""A method that looks at more than the models gave, as numbers of its own say: attacked or noisy inputs, own texts."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mmkd_jax.objective import Objective


def numbered(terms: Objective, look: Callable[..., Any], **numbers: Any) -> Objective:
    """The terms, with what `look(views, numbers)` sees; the numbers are memory, beside those that the terms have.

    Args:
        terms: the objective; a part of it cannot be named "numbers".
        look: `(views, numbers) -> views`.
        **numbers: the method's own.
    """
    own = {k: np.float32(v) for k, v in numbers.items()}

    def init(views):
        params, memory = terms.init(look(views, own))
        return params, memory | {"numbers": memory.get("numbers", {}) | own}

    def apply(params, memory: Mapping[str, Any], views):
        every = memory["numbers"]
        inner = {**memory, "numbers": {k: v for k, v in every.items() if k not in own}}
        out, after = terms.apply(params, inner, look(views, every))
        return out, after | {"numbers": every}

    return Objective(init, apply)
