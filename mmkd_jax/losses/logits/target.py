"""The labelled class apart from the others."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from mmkd_jax.losses.numeric import log_softmax


def target_apart(
    x: Float[Array, "*n c"], labels: Integer[Array, "*n"]
) -> tuple[Float[Array, "*n 2"], Float[Array, "*n c"]]:
    """[log p_y, log(1 − p_y)], and the log-probabilities of the others among themselves (−inf at y).

    From the logits themselves: log(1 − p_y) is the log-sum-exp of the others, exact at any gap.
    """
    rest = jnp.where(jax.nn.one_hot(labels, x.shape[-1], dtype=jnp.bool_), -jnp.inf, x)
    some = jnp.any(rest > -jnp.inf, -1, keepdims=True)
    lse = jax.nn.logsumexp(jnp.where(some, rest, 0), -1)  # a row without others would be NaN
    lse = jnp.where(some[..., 0], lse, -jnp.inf)
    own = jnp.take_along_axis(x, labels[..., None], -1)[..., 0]
    pair = log_softmax(jnp.stack([own, lse], -1))
    return pair, jnp.where(some, log_softmax(jnp.where(some, rest, 0)), -jnp.inf)
