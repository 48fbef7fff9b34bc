"""Implementations of losses between the layers of transformers."""

import jax.numpy as jnp

from mmkd_jax import losses
from tests.losses.golden.recorded import Golden


def tokens(m):
    return None if m is None else m.astype(bool)


def by_length(values, m, power):
    """The mean of the values, weighted by the length of the text to a power."""
    if m is None:
        return jnp.mean(values)
    weight = jnp.sum(m.astype(bool), 1).astype(values.dtype) ** power
    return jnp.sum(weight * values) / jnp.sum(weight)


def att_mse(h, s, t, m=None):
    return by_length(losses.attention_mse(s, t, mask=tokens(m)), m, 2)


def plain_att_mse(h, s, t, m=None):
    return jnp.mean(losses.attention_mse(s, t, mask=tokens(m)))


def att_mse_sum(h, s, t, m=None):
    return att_mse(h, s.sum(1, keepdims=True), t.sum(1, keepdims=True), m)


def att_kl(h, s, t, m=None):
    return by_length(losses.attention_kl(s, t, mask=tokens(m), given="scores"), m, 1)


def att_kl_mean(h, s, t, m=None):
    return att_kl(h, s.mean(1, keepdims=True), t.mean(1, keepdims=True), m)


def hidden(h, s, t, m=None):
    values = losses.hidden_mse(s, t)
    return jnp.mean(values) if m is None else jnp.sum(values * m) / jnp.sum(m)


def patient(h, s, t):
    return jnp.mean(losses.patient((s,), (t,)))


def fsp(h, s, s2, t, t2, m=None):
    return jnp.mean(losses.token_fsp((s, s2), (t, t2), mask=tokens(m)))


def nst(h, s, s2, t, t2, m=None):
    return by_length(losses.token_nst((s, s2), (t, t2), mask=tokens(m)), m, 2)


def plain_nst(h, s, s2, t, t2, m=None):
    return jnp.mean(losses.token_nst((s, s2), (t, t2), mask=tokens(m)))


CLIPPED = "It sets all scores below −0.001 to 0, meant for masked ones; ours has a mask."
PADDING = "Its cross-entropy gives padding a share of the softmax and then drops it; ours is KL over the tokens."
ZEROED = "Its cross-entropy drops every key with a negative score; ours is the KL over all keys."

ROWS = (
    Golden("att_mse.TB.mask", "composed", "The mean over texts, weighted by length squared.", att_mse, plain_att_mse),
    Golden("att_mse.TB.nomask", "differs", CLIPPED, att_mse),
    Golden("att_mse_sum.TB.mask", "composed", "The same, of the heads' sum.", att_mse_sum, plain_att_mse),
    Golden("att_mse_sum.TB.nomask", "differs", CLIPPED, att_mse_sum),
    Golden("att_ce.TB.mask", "differs", PADDING, att_kl),
    Golden("att_ce.TB.nomask", "differs", ZEROED, att_kl),
    Golden("att_ce_mean.TB.mask", "differs", PADDING, att_kl_mean),
    Golden("att_ce_mean.TB.nomask", "differs", ZEROED, att_kl_mean),
    Golden("hid_mse.TB.*", "equal", "The mean square over the tokens that count.", hidden),
    Golden("pkd.TB", "equal", "The squared distance of the normalized first tokens.", patient),
    Golden("fsp.TB.*", "equal", "The products of dimensions over the length of each text.", fsp),
    Golden("mmd.TB.nomask", "equal", "The products of tokens over the width.", nst),
    Golden("mmd.TB.mask", "composed", "The mean over texts, weighted by length squared.", nst, plain_nst),
)
