"""Mean squared error."""

from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32, mean_of_last
from mmkd_jax.validation import validated


@validated
def mse(predictions: Float[Array, " b *d"], targets: Float[Array, " b *d"]) -> Float[Array, "b ..."]:
    """Mean squared error (MSE).

    Formula: (1 / D) Σ_d (ŷ_d − y_d)²

    Args:
        predictions: ŷ, [b] or [b, ..., d].
        targets: y, same shape.

    Returns:
        Values [b] or [b, ...].

    Compares: predictions, targets
    Extra: none
    Source: Hastie et al., The Elements of Statistical Learning, 2009, https://hastie.su.domains/ElemStatLearn/

    Example:
        >>> import jax.numpy as jnp
        >>> mse(jnp.array([1.0, 3.0]), jnp.array([1.0, 1.0]))
        Array([0., 4.], dtype=float32)
    """
    predictions, targets = at_least_float32(predictions, targets)
    gap = predictions - targets
    return mean_of_last(gap * gap)
