"""Mean absolute error."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32, mean_of_last
from mmkd_jax.validation import validated


@validated
def l1(predictions: Float[Array, " b *d"], targets: Float[Array, " b *d"]) -> Float[Array, "b ..."]:
    """Mean absolute error (L1 loss).

    Formula: (1 / D) Σ_d |ŷ_d − y_d|

    Args:
        predictions: ŷ, [b] or [b, ..., d].
        targets: y, same shape.

    Returns:
        Values [b] or [b, ...].

    Compares: predictions, targets
    Extra: none
    Source: Hastie et al., The Elements of Statistical Learning, 2009, https://hastie.su.domains/ElemStatLearn/

    Example:
        >>> l1(jnp.array([1.0, 3.0]), jnp.array([1.0, 1.0]))
        Array([0., 2.], dtype=float32)
    """
    predictions, targets = at_least_float32(predictions, targets)
    return mean_of_last(jnp.abs(predictions - targets))
