"""Huber's error."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.number import Positive
from mmkd_jax.losses.numeric import at_least_float32, like, mean_of_last


@checked
def huber(
    predictions: Float[Array, " b *d"], targets: Float[Array, " b *d"], *, delta: Positive = 1.0
) -> Float[Array, "b ..."]:
    """Huber's error of regression: a square near 0, a line beyond δ.

    Formula: (1 / D) Σ_d h(|ŷ_d − y_d|), h(e) = e² / 2 up to δ, δ (e − δ / 2) beyond

    Args:
        predictions: ŷ, [b] or [b, ..., d].
        targets: y, of the same shape.
        delta: δ > 0, a number or one per example.

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
