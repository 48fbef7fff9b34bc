"""GradNorm: gradient normalization for loss balancing."""

import jax.numpy as jnp
import numpy as np
import optax

from mmkd_jax.core.aggregator import Aggregator, combined, descend, named, norms, several, shared, stacked
from mmkd_jax.typing import NotNegative
from mmkd_jax.validation import validated

SMALLEST = 1e-3


@validated
def gradnorm(
    *,
    alpha: NotNegative = 1.5,
    over: str = "",
    learning_rate: NotNegative = 0.025,
    transform: optax.GradientTransformation = optax.scale_by_adam(),  # noqa: B008  a pair of pure functions
) -> Aggregator:
    """GradNorm: learn term weights so that terms with slower progress get larger gradients.

    Formula: Σ_i w_i g_i; w descends Σ_i |w_i ‖g_i‖ − c_i|, c_i = mean_j(w_j ‖g_j‖) · r_i^α held constant, and is then
    rescaled to Σ w_i = n; r_i = ρ_i / mean_j ρ_j, ρ_i = L_i / L_i of the first batch

    Args:
        alpha: α, strength of the balancing toward slow terms; 0 equalizes all norms.
        over: dotted path of the parameters whose gradient norms are balanced, such as "student.Dense_0"; if empty, all
            of the models' parameters. The paper uses the last layer shared by all terms.
        learning_rate: learning rate of w.
        transform: optax transform of the gradient with respect to w, before scaling by the learning rate;
            `optax.identity()` is plain gradient descent.

    Returns:
        An aggregator whose state holds w and the first value of each term, and the state of the transform.

    Topic: gradients
    Compares: norms of the terms' gradients, and term values relative to their first ones
    Extra: learns a weight for each term
    Source: Chen et al., GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks, 2018, https://arxiv.org/abs/1711.02257
    Differs: weights are clipped to at least 1e-3 before rescaling; a term counts as unchanged until its first
        positive value

    Example:
        >>> gradnorm(alpha=0.5).name
        'gradnorm'
    """

    def init(names, params):
        several("gradnorm", names)
        shared(params, over)
        weight = {n: jnp.float32(1) for n in names}
        return {
            "weight": weight,
            "first": {n: jnp.float32(0) for n in names},
            "transform": transform.init(weight),
            "hyperparams": {"alpha": np.float32(alpha), "learning_rate": np.float32(learning_rate)},
        }

    def apply(gradients, values, aggregator_state, key):
        hyperparams, current = aggregator_state["hyperparams"], stacked(values, values)
        weight, first = stacked(aggregator_state["weight"], values), stacked(aggregator_state["first"], values)
        first = jnp.where(first > 0, first, current.astype(first.dtype))
        size = norms(gradients, over).astype(weight.dtype)
        ratio = jnp.where(first > 0, jnp.maximum(current.astype(first.dtype), 0) / jnp.where(first > 0, first, 1), 1)
        mean = jnp.mean(ratio)
        rate = jnp.where(mean > 0, ratio / jnp.where(mean > 0, mean, 1), 1)
        target = jnp.mean(weight * size) * rate ** hyperparams["alpha"]
        slope = named(jnp.sign(weight * size - target) * size, values)
        new_weight, state = descend(
            transform, hyperparams["learning_rate"], aggregator_state["weight"], slope, aggregator_state["transform"]
        )
        new_weight = jnp.maximum(stacked(new_weight, values), SMALLEST)
        new_weight = new_weight * len(values) / jnp.sum(new_weight)
        updates = {"weight": named(new_weight, values), "first": named(first, values), "transform": state}
        return combined(gradients, weight), aggregator_state | updates

    return Aggregator("gradnorm", init, apply)
