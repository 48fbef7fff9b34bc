"""Implementations of losses between features."""

import jax.numpy as jnp

from mmkd_jax import losses
from tests.losses.golden.recorded import Golden, channels_last


def at(h, s, t):
    """Channels come second there, and the larger map is pooled to the smaller's size."""
    k = t.shape[-1] // s.shape[-1]
    b, c, height, width = t.shape
    t = t.reshape(b, c, height // k, k, width // k, k).mean((3, 5))
    power = float(h.get("p", 2))
    return jnp.mean(losses.attention_transfer(channels_last(s), channels_last(t), power=power))


def at_paper(h, s, t):
    return jnp.mean(losses.attention_transfer(channels_last(s), channels_last(t), form="paper"))


def cos(h, s, t, m=None):
    values = losses.cosine(s, t)
    return jnp.mean(values) if m is None else jnp.sum(values * m) / jnp.sum(m)


def hint(h, s, t):
    return jnp.mean(losses.hint(s, t))


ROWS = (
    Golden("hint.*", "equal", "The mean square over all elements.", hint),
    Golden("at.*", "equal", "The mean of squares between normalised maps, the larger one pooled first.", at),
    Golden("at.torchdistill_paper", "equal", "The paper's norm: form='paper'.", at_paper),
    Golden("at.KD_Lib", "differs", "It normalises the whole map without reducing channels: no attention map.", at),
    Golden("cos.*", "equal", "One minus the cosine, over the valid tokens.", cos),
)
