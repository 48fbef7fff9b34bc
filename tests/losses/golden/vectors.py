"""Implementations of losses between vectors of features."""

import jax.numpy as jnp

from mmkd_jax import losses
from tests.losses.golden.recorded import Golden, channels_last


def normalized(h, s, t):
    """Whole examples."""
    return jnp.mean(losses.normalized_l2(*(x.reshape(len(x), -1) for x in (s, t))))


def hint(h, s, t):
    return jnp.mean(losses.hint(s, t))


def pearson(h, s, t):
    return jnp.mean(losses.pearson(channels_last(s), channels_last(t)))


def pad_l2(h, s, t, logvar):
    return jnp.mean(losses.pad_l2(s, t, logvar, eps=h["eps"]))


ROWS = (
    Golden("l2.mmrazor_True_False", "composed", "normalized_l2 of whole examples.", normalized),
    Golden("l2.mmrazor_False_True", "equal", "The mean square over all elements: hint.", hint),
    Golden("pkd_pearson.mmrazor", "equal", "Channels standardized over batch and positions.", pearson),
    Golden("pad_l2.*", "equal", "The mean over features and batch, with its ε.", pad_l2),
)
