"""Weights that bring the gradients' norms to a common scale."""

import jax.numpy as jnp
import numpy as np
import optax

from mmkd_jax.arguments import held
from mmkd_jax.losses.number import NotNegative
from mmkd_jax.schemes.scheme import Scheme, combined, descend, named, norms, several, shared, stacked

SMALLEST = 1e-3


@held
def gradnorm(
    *,
    alpha: NotNegative = 1.5,
    over: str = "",
    learning_rate: NotNegative = 0.025,
    transform: optax.GradientTransformation = optax.scale_by_adam(),  # noqa: B008  a pair of pure functions
) -> Scheme:
    """GradNorm: weights are learned so that terms which have fallen less get larger gradients.

    Formula: Σ_i w_i g_i; w descends Σ_i |w_i ‖g_i‖ − mean_j(w_j ‖g_j‖) · r_i^α| with the second part held fixed, and is
    then scaled to Σ w_i = n; r_i = ρ_i / mean_j ρ_j, ρ_i = L_i / L_i of the first batch

    Args:
        alpha: how strongly slow terms are pulled; 0 makes all norms equal.
        over: dotted path of the parameters over which norms are taken, such as "student.Dense_0"; all of the models' if
            empty. The last layer that all terms share is the paper's choice.
        learning_rate: with which w moves.
        transform: of the gradient by w before it is scaled by the rate; `optax.identity()` is plain descent.

    Returns:
        A scheme that remembers w and the first value of each term, and the state of the transform.

    Topic: gradients
    Compares: norms of the terms' gradients, and their values with their first ones
    Extra: learns a weight for each term
    Source: Chen et al., GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks, 2018, https://arxiv.org/abs/1711.02257
    Differs: no weight falls below 1e-3 before scaling; a term counts as unchanged until its first positive value

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
            "numbers": {"alpha": np.float32(alpha), "learning_rate": np.float32(learning_rate)},
        }

    def apply(gradients, values, memory, key):
        numbers, now = memory["numbers"], stacked(values, values)
        weight, first = stacked(memory["weight"], values), stacked(memory["first"], values)
        first = jnp.where(first > 0, first, now.astype(first.dtype))
        size = norms(gradients, over).astype(weight.dtype)
        ratio = jnp.where(first > 0, jnp.maximum(now.astype(first.dtype), 0) / jnp.where(first > 0, first, 1), 1)
        mean = jnp.mean(ratio)
        rate = jnp.where(mean > 0, ratio / jnp.where(mean > 0, mean, 1), 1)
        target = jnp.mean(weight * size) * rate ** numbers["alpha"]
        slope = named(jnp.sign(weight * size - target) * size, values)
        new, state = descend(transform, numbers["learning_rate"], memory["weight"], slope, memory["transform"])
        new = jnp.maximum(stacked(new, values), SMALLEST)
        new = new * len(values) / jnp.sum(new)
        after = {"weight": named(new, values), "first": named(first, values), "transform": state}
        return combined(gradients, weight), memory | after

    return Scheme("gradnorm", init, apply)
