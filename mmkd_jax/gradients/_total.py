"""Plain sum of gradients."""

import jax.numpy as jnp

from mmkd_jax.core.aggregator import Aggregator, combined
from mmkd_jax.validation import validated


@validated
def total() -> Aggregator:
    """Sum of the terms' gradients, as without an aggregator, but the step also reports each term's gradient norm.

    Formula: Σ_i g_i

    Example:
        >>> total().name
        'total'
    """

    def apply(gradients, values, state, key):
        return combined(gradients, jnp.ones(len(values))), state

    return Aggregator("total", lambda names, params: {}, apply)
