"""The target class, split off from the other classes."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from mmkd_jax.numeric import log_softmax


def target_apart(
    x: Float[Array, "*n c"], labels: Integer[Array, "*n"]
) -> tuple[Float[Array, "*n 2"], Float[Array, "*n c"]]:
    """Return [log p_y, log(1 − p_y)], and the renormalized log-probabilities of the other classes (−inf at y).

    log(1 − p_y) is computed as the log-sum-exp of the other logits, and so is exact at any logit gap.
    """
    rest = jnp.where(jax.nn.one_hot(labels, x.shape[-1], dtype=jnp.bool_), -jnp.inf, x)
    has_others = jnp.any(rest != -jnp.inf, -1, keepdims=True)
    lse = jax.nn.logsumexp(jnp.where(has_others, rest, 0), -1)  # NaN without other classes
    lse = jnp.where(has_others[..., 0], lse, -jnp.inf)
    target = jnp.take_along_axis(x, labels[..., None], -1)[..., 0]
    pair = log_softmax(jnp.stack([target, lse], -1))
    return pair, jnp.where(has_others, log_softmax(jnp.where(has_others, rest, 0)), -jnp.inf)
