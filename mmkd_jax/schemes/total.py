"""The plain sum."""

import jax.numpy as jnp

from mmkd_jax.arguments import held
from mmkd_jax.schemes.scheme import Scheme, combined


@held
def total() -> Scheme:
    """The sum of the terms' gradients, as without a scheme; it is here for the norm of each, which the step then tells.

    Formula: Σ_i g_i

    Example:
        >>> total().name
        'total'
    """

    def apply(gradients, values, memory, key):
        return combined(gradients, jnp.ones(len(values))), memory

    return Scheme("total", lambda names, params: {}, apply)
