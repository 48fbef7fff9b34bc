"""Max-norm constraint on the incoming weights of each unit."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from mmkd_jax.errors import UserError


def max_norm(limit: float | int) -> optax.GradientTransformation:
    """Max-norm constraint: bound the L2 norm of each unit's incoming weights; use it last in an optax chain.

    Formula: w ← w · min(1, limit / ‖w‖) for each column w of a matrix [inputs, units], after the update

    Args:
        limit: maximum norm, above 0. Arrays other than matrices (biases, scales) are not constrained.

    Returns:
        An optax transformation whose updates keep the weights within the limit.

    Raises:
        UserError: the limit is not above 0.

    Source: Hinton et al., Improving neural networks by preventing co-adaptation of feature detectors, 2012,
        https://arxiv.org/abs/1207.0580

    Example:
        >>> optimizer, params = optax.chain(optax.sgd(1.0), max_norm(2.0)), {"w": jnp.zeros((2, 1))}
        >>> updates, _ = optimizer.update({"w": jnp.array([[-3.0], [-4.0]])}, optimizer.init(params), params)
        >>> [round(w, 3) for w in optax.apply_updates(params, updates)["w"].ravel().tolist()]
        [1.2, 1.6]
    """
    if not limit > 0:
        raise UserError(f"max_norm: limit is {limit}; expected a number above 0")

    def bounded(weight, update):
        if weight.ndim != 2:
            return update
        norm = jnp.linalg.norm(weight + update, axis=0)
        return (weight + update) * jnp.minimum(1, limit / jnp.maximum(norm, limit)) - weight

    def update(updates: Any, state: optax.OptState, params: Any = None):
        if params is None:
            raise UserError("max_norm: needs the parameters: optimizer.update(gradients, state, params)")
        return jax.tree.map(bounded, params, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
