"""Homoscedastic uncertainty weighting."""

import jax.numpy as jnp
import numpy as np
import optax

from mmkd_jax.core.aggregator import Aggregator, combined, descend, named, stacked
from mmkd_jax.errors import UserError, choices
from mmkd_jax.typing import NotNegative
from mmkd_jax.validation import validated


@validated
def uncertainty(
    *,
    regression: tuple[str, ...] = (),
    learning_rate: NotNegative = 0.01,
    transform: optax.GradientTransformation = optax.scale_by_adam(),  # noqa: B008  a pair of pure functions
) -> Aggregator:
    """Uncertainty weighting: divide each term by a learned variance, with its log as a penalty.

    Formula: Σ_i [f_i · exp(−s_i) · L_i + s_i / 2], s_i = log σ²_i from 0, f_i = 1 for classification and 1/2 for
    regression; s_i ← s_i − rate · transform(1/2 − f_i · exp(−s_i) · L_i)

    At the optimum, f_i · exp(−s_i) · L_i is 1/2. The weight of a term that reaches zero or less is unbounded.

    Args:
        regression: names of squared-error terms; all others are treated as classification (cross-entropy, KL).
        learning_rate: learning rate of s.
        transform: optax transform of the gradient with respect to s, before scaling by the learning rate;
            `optax.identity()` is plain gradient descent.

    Returns:
        An aggregator whose state holds s for each term, and the state of the transform.

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
            "hyperparams": {"learning_rate": np.float32(learning_rate)},
        }

    def apply(gradients, values, aggregator_state, key):
        loss, s = stacked(values, values), stacked(aggregator_state["log_variance"], values)
        weight = jnp.where(jnp.array([n in regression for n in values]), 0.5, 1).astype(s.dtype) * jnp.exp(-s)
        slope = named(0.5 - weight * loss.astype(s.dtype), values)
        rate = aggregator_state["hyperparams"]["learning_rate"]
        s, state = descend(transform, rate, aggregator_state["log_variance"], slope, aggregator_state["transform"])
        return combined(gradients, weight), aggregator_state | {"log_variance": s, "transform": state}

    return Aggregator("uncertainty", init, apply)
