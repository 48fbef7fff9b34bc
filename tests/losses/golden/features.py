"""Implementations of losses between features."""

import jax.numpy as jnp

from mmkd_jax import losses
from tests.losses.golden.recorded import Golden


def cos(h, s, t, m=None):
    values = losses.cosine(s, t)
    return jnp.mean(values) if m is None else jnp.sum(values * m) / jnp.sum(m)


def hint(h, s, t):
    return jnp.mean(losses.hint(s, t))


ROWS = (
    Golden("hint.*", "equal", "The mean square over all elements.", hint),
    Golden("cos.*", "equal", "One minus the cosine, over the valid tokens.", cos),
)
