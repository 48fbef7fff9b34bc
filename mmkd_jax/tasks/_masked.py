"""Terms whose values count under a mask that is not a column, such as that of the known labels."""

from collections.abc import Callable

import jax

from mmkd_jax.core.objective import Objective
from mmkd_jax.core.outputs import Outputs


def masked(each: Objective, mask: Callable[[Outputs], jax.Array]) -> Objective:
    """Return a term whose values count where its own mask and a further one are True.

    Args:
        each: a term with values [b, n].
        mask: `(outputs) -> mask` [b, n].
    """

    def apply(params, state, outputs):
        found, state = each.apply(params, state, outputs)
        further = mask(outputs)
        rows = True if found.where is None else found.where.reshape(len(further), -1)  # [b, 1] or [b, n]
        return found._replace(where=further & rows), state

    return Objective(each.init, apply)
