"""Weights from a learned uncertainty for each term."""

import jax.numpy as jnp
import numpy as np
import optax

from mmkd_jax.arguments import held
from mmkd_jax.errors import UserError, choices
from mmkd_jax.losses.number import NotNegative
from mmkd_jax.schemes.scheme import Scheme, combined, descend, named, stacked


@held
def uncertainty(
    *,
    regression: tuple[str, ...] = (),
    learning_rate: NotNegative = 0.01,
    transform: optax.GradientTransformation = optax.scale_by_adam(),  # noqa: B008  a pair of pure functions
) -> Scheme:
    """Uncertainty weighting: each term is divided by a learned variance, whose logarithm is its price.

    Formula: Σ_i [f_i · exp(−s_i) · L_i + s_i / 2], s_i = log σ²_i from 0, f_i = 1 for classification and 1/2 for
    regression; s_i ← s_i − rate · transform(1/2 − f_i · exp(−s_i) · L_i)

    At rest, f_i · exp(−s_i) · L_i is 1/2. A term that falls to zero, or below, gets a weight without bound.

    Args:
        regression: names of terms that are squared errors; all others count as classification (cross-entropy, KL).
        learning_rate: with which s moves.
        transform: of the gradient by s before it is scaled by the rate; `optax.identity()` is plain descent.

    Returns:
        A scheme that remembers s for each term, and the state of the transform.

    Topic: gradients
    Compares: values of the terms
    Extra: learns a log-variance for each term
    Source: Kendall et al., Multi-Task Learning Using Uncertainty to Weigh Losses, 2018, https://arxiv.org/abs/1705.07115

    Example:
        >>> uncertainty(regression=("hint",), learning_rate=0.025).name
        'uncertainty'
    """

    def init(names, params):
        if unknown := set(regression) - set(names):
            raise UserError(f"uncertainty: regression names {choices(unknown)}; the terms are: {choices(names)}")
        log_variance = {n: jnp.float32(0) for n in names}
        return {
            "log_variance": log_variance,
            "transform": transform.init(log_variance),
            "numbers": {"learning_rate": np.float32(learning_rate)},
        }

    def apply(gradients, values, memory, key):
        loss, s = stacked(values, values), stacked(memory["log_variance"], values)
        weight = jnp.where(jnp.array([n in regression for n in values]), 0.5, 1).astype(s.dtype) * jnp.exp(-s)
        slope = named(0.5 - weight * loss.astype(s.dtype), values)
        rate = memory["numbers"]["learning_rate"]
        s, state = descend(transform, rate, memory["log_variance"], slope, memory["transform"])
        return combined(gradients, weight), memory | {"log_variance": s, "transform": state}

    return Scheme("uncertainty", init, apply)
