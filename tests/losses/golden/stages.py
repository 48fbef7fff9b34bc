"""Implementations of losses over stages, and of those that the teacher's head sees."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmkd_jax import losses
from mmkd_jax.core.model import StepContext
from mmkd_jax.losses._pool import average_pool
from mmkd_jax.nn.connectors import ABF, Bottleneck, Conv, Linear
from tests.losses.golden.recorded import Golden, channels_last

TRAIN = StepContext(0, jax.random.key(0), train=True)


def kernel(weight):
    """[d, c, h, w] -> [h, w, c, d]."""
    return jnp.transpose(weight, (2, 3, 1, 0))


def trained(module, params, *x):
    """What a module gives in training, with BatchNorms that normalize over the batch."""
    return module.apply({"params": params}, *x, TRAIN, mutable=["batch_stats"])[0]


def scale(params, name):
    return {"scale": params[f"{name}_weight"], "bias": params[f"{name}_bias"]}


def hcl(h, **given):
    """One stage as s and t, or several as s0, s1 … and t0, t1 …"""
    sides = (tuple(channels_last(given[k]) for k in sorted(given) if k.startswith(side)) for side in "st")
    return jnp.mean(losses.hcl(*sides))


def abf(h, s, t, **given):
    """The third array beside the weights is the residual of the deeper stage."""
    weights = {k: given.pop(k) for k in list(given) if k.endswith(("weight", "bias"))}
    residual = [channels_last(x) for x in given.values()]
    params = {
        "inward": {"kernel": kernel(weights["conv1_0_weight"])},
        "BatchNorm_0": scale(weights, "conv1_1"),
        "outward": {"kernel": kernel(weights["conv2_0_weight"])},
        "BatchNorm_1": scale(weights, "conv2_1"),
        "attention": {"kernel": kernel(weights["att_conv_0_weight"]), "bias": weights["att_conv_0_bias"]},
    }
    t = channels_last(t)
    fusion = ABF(weights["conv1_0_weight"].shape[0], t.shape[-1], (t.shape[1], t.shape[2]))
    out, _ = trained(fusion, params, channels_last(s), *(residual or [None]))
    return jnp.mean(losses.hcl((out,), (t,)))


def semckd(h, **given):
    """Pairs of a student's and a teacher's layer; where there is one array a layer, each meets each."""
    (weights,) = (x for k, x in given.items() if k[0] not in "st")
    _, layers, others = weights.shape
    s, t = ([x for k, x in sorted(given.items()) if k[0] == side] for side in "st")
    s = [x for x in s for _ in range(others)] if len(s) == layers else s
    t = t * layers if len(t) == others else t
    return jnp.mean(losses.semckd(tuple(s), tuple(t), weights))


def srrl_with_logits(h, **given):
    """Maps, pooled, and logits; the teacher's are those whose names have a t."""
    sides = ([x for k, x in given.items() if ("t" in k) == teacher] for teacher in (False, True))
    pairs = [sorted(side, key=lambda x: -x.ndim) for side in sides]
    pooled = [(features.reshape(*features.shape[:2], -1).mean(2), logits) for features, logits in pairs]
    return jnp.mean(losses.srrl(*pooled, alpha=h["alpha"], beta=h["beta"]))


def srrl(h, s, t, transfer_0_weight, transfer_1_weight, transfer_1_bias, **head):
    """Behind the connector and through the classifier: a matrix, a vector, perhaps the logits that it gave."""
    params = {
        "Dense_0": {"kernel": transfer_0_weight[:, :, 0, 0].T},
        "BatchNorm_0": {"scale": transfer_1_weight, "bias": transfer_1_bias},
    }
    z = nn.relu(trained(Linear(t.shape[-1], batch_norm=True), params, s))
    matrix = next(x for x in head.values() if x.ndim == 2 and x.shape[1] == t.shape[1])
    bias = next((x for x in head.values() if x.ndim == 1), jnp.zeros(len(matrix)))
    given = next((x for x in head.values() if x.ndim == 2 and x is not matrix), t @ matrix.T + bias)
    return jnp.mean(losses.srrl((z, z @ matrix.T + bias), (t, given)))


def simkd(h, s, t, **weights):
    """A larger map of the student is pooled, then projected."""
    s, t = channels_last(s), channels_last(t)
    layers = [(f"Conv_{i}", {"kernel": kernel(weights[f"transfer_{3 * i}_weight"])}) for i in range(3)]
    norms = [(f"BatchNorm_{i}", scale(weights, f"transfer_{3 * i + 1}")) for i in range(3)]
    projector = Bottleneck(t.shape[-1], t.shape[-1] // int(h["factor"]), activated=True)
    z = trained(projector, dict(layers + norms), average_pool(s, t.shape[1:3]))
    return jnp.mean(losses.simkd(z, t))


def convreg(h, s, t, conv_weight, bn_weight, bn_bias, **given):
    """The convolution's bias is nothing in front of a BatchNorm."""
    params = {"Conv_0": {"kernel": kernel(conv_weight)}, "BatchNorm_0": {"scale": bn_weight, "bias": bn_bias}}
    connector = Conv(t.shape[1], kernel=3, stride=2, batch_norm=True)
    return jnp.mean(losses.hint(trained(connector, params, channels_last(s)), channels_last(t)))


ROWS = (
    Golden("hcl.*", "equal", "The weighted means of squares of maps and their averages, summed over the stages.", hcl),
    Golden("reviewkd_abf.*", "composed", "hcl of what connectors.ABF gives, as methods.reviewkd takes it.", abf),
    Golden("semckd.*", "equal", "The weighted sum over pairs; it adds up in float32.", semckd, single=True),
    Golden("srrl.cls_KD", "composed", "Our two means, of maps that were pooled first.", srrl_with_logits),
    Golden("srrl.SimKD", "composed", "Behind a connector and through a classifier, as methods.srrl has them.", srrl),
    Golden("simkd.*", "composed", "Behind the projector of models.simkd.", simkd),
    Golden("fitnet_convreg.*", "composed", "The hint behind connectors.Conv with BatchNorm.", convreg),
)
