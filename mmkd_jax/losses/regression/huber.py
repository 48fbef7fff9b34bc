"""Huber loss."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32, like, mean_of_last
from mmkd_jax.typing import Positive
from mmkd_jax.validation import validated


@validated
def huber(
    predictions: Float[Array, " b *d"], targets: Float[Array, " b *d"], *, delta: Positive = 1.0
) -> Float[Array, "b ..."]:
    """Huber loss: quadratic up to δ, linear beyond.

    Formula: (1 / D) Σ_d h(|ŷ_d − y_d|), h(e) = e² / 2 up to δ, δ (e − δ / 2) beyond

    Args:
        predictions: ŷ, [b] or [b, ..., d].
        targets: y, same shape.
        delta: δ > 0, a scalar or one value per example.

    Returns:
        Values [b] or [b, ...].

    Compares: predictions, targets
    Extra: none
    Source: Huber, Robust Estimation of a Location Parameter, 1964, https://doi.org/10.1214/aoms/1177703732
    Differs: PyTorch's smooth_l1_loss is this divided by δ

    Example:
        >>> huber(jnp.array([1.0, 3.0]), jnp.array([0.0, 0.0]))
        Array([0.5, 2.5], dtype=float32)
    """
    predictions, targets = at_least_float32(predictions, targets)
    error = jnp.abs(predictions - targets)
    delta = like(delta, error)
    return mean_of_last(jnp.where(error <= delta, error * error / 2, delta * (error - delta / 2)))
