"""Implementations of losses between vectors of features."""

import jax.numpy as jnp

from mmkd_jax import losses
from tests.losses.golden.recorded import Golden, channels_last


def l2(h, s, t):
    """Whole examples, normalised or not; summed, or divided by their size."""
    s, t = (x.reshape(len(x), -1) for x in (s, t))
    if h["normalize"]:
        return jnp.mean(losses.normalized_l2(s, t)) / (s.shape[-1] if h["div_element"] else 1)
    return jnp.mean(losses.hint(s, t)) * (1 if h["div_element"] else s.shape[-1])


def pearson(h, s, t):
    return jnp.mean(losses.pearson(channels_last(s), channels_last(t)))


def pad_l2(h, s, t, logvar):
    return jnp.mean(losses.pad_l2(s, t, logvar, eps=h["eps"]))


ROWS = (
    Golden("l2.mmrazor_*", "composed", "normalized_l2 or hint of whole examples, summed or divided by their size.", l2),
    Golden("l2.mmrazor_True_False", "composed", "normalized_l2 of whole examples.", l2),
    Golden("l2.mmrazor_False_True", "equal", "The mean square over all elements: hint.", l2),
    Golden("pkd_pearson.mmrazor", "equal", "Channels standardised over batch and positions.", pearson),
    Golden("pad_l2.*", "equal", "The mean over features and batch, with its ε.", pad_l2),
)
