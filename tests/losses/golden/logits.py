"""Implementations of losses between logits."""

import jax
import jax.numpy as jnp

from mmkd_jax import losses
from tests.losses.golden.recorded import Golden


def temperature(h):
    return next((h[k] for k in ("T", "temperature", "tau", "temp") if k in h), 1.0)


def kl(h, s, t):
    values = losses.kl(s, t, temperature=temperature(h))
    return values if h.get("reduction") == "none" else jnp.mean(values)


def kl_of_classes(h, s, t):
    return jnp.mean(losses.kl(s, t, temperature=temperature(h))) / s.shape[-1]


def kl_without_square(h, s, t):
    return jnp.mean(losses.kl(s, t, temperature=temperature(h))) / temperature(h) ** 2


def with_task(share):
    """share(alpha) of KL and the rest of cross-entropy."""

    def ours(h, s, t, y):
        a = share(h["alpha"])
        return a * jnp.mean(losses.kl(s, t, temperature=temperature(h))) + (1 - a) * jnp.mean(
            losses.cross_entropy(s, y)
        )

    return ours


def kl_and_entropy(h, s, t):
    """The cross-entropy form."""
    p = jax.nn.softmax(t / temperature(h))
    entropy = -jnp.sum(p * jnp.log(p), -1)
    values = losses.kl(s, t, temperature=temperature(h)) + temperature(h) ** 2 * entropy
    return h["alpha"] * jnp.mean(values)


def jsd(h, s, t, y):
    """TRL takes KL and reverse KL at the ends, and leaves padded tokens out."""
    valid = y != -100
    if h["beta"] in (0.0, 1.0):
        loss = losses.reverse_kl if h["beta"] else losses.kl
        values = loss(s, t, temperature=temperature(h)) / temperature(h) ** 2
    else:
        values = losses.jsd(s, t, beta=h["beta"], temperature=temperature(h))
    summed = jnp.sum(jnp.where(valid, values, 0))
    if h["reduction"] == "sum":
        return summed
    return summed / jnp.sum(valid) / (s.shape[-1] if h["reduction"] == "mean" else 1)


def dkd(h, s, t, y):
    return jnp.mean(losses.dkd(s, t, y, alpha=h["alpha"], beta=h["beta"], temperature=temperature(h)))


def logit_mse(h, s, t):
    return jnp.mean(losses.logit_mse(s / temperature(h), t / temperature(h)))


def cross_entropy(h, s, y):
    return jnp.mean(losses.cross_entropy(s, y, label_smoothing=h["label_smoothing"]))


ROWS = (
    Golden("kd.*", "equal", "T² KL, summed over classes, mean over the batch.", kl),
    Golden("kd.ModelOpt.*_mean", "composed", "Its default also divides by the number of classes.", kl_of_classes),
    Golden("kd.mmrazor.*_mean", "composed", "This reduction also divides by the number of classes.", kl_of_classes),
    Golden("kd.torchdistill.*", "composed", "α cross-entropy and 1 − α KL.", with_task(lambda a: 1 - a)),
    Golden("kd.attention-transfer.*", "composed", "α KL and 1 − α cross-entropy.", with_task(lambda a: a)),
    Golden("kd.cls_KD.*", "composed", "KL and the teacher's entropy, times α: the same gradient.", kl_and_entropy),
    Golden("tunix_logit.*", "composed", "α KL and 1 − α cross-entropy.", with_task(lambda a: a)),
    Golden("keras_logits.*", "differs", "It clips probabilities at 1e-7: tails have no gradient.", kl),
    Golden("kl_div.torch.*", "composed", "KL without T².", kl_without_square),
    Golden("optax_kl.*", "composed", "KL without T².", kl_without_square),
    Golden("gkd_jsd.trl.*", "composed", "JSD summed over the valid tokens, divided as its reduction says.", jsd),
    Golden("dkd.*", "equal", "The weighted parts, with T².", dkd),
    Golden("dkd.mdistiller.big", "differs", "log(softmax) underflows there; ours is finite.", dkd),
    Golden("kd_mse.TextBrewer.*", "composed", "The mean square of logits divided by T.", logit_mse),
    Golden("ce.torch.*", "equal", "Smoothing towards the uniform distribution over all classes.", cross_entropy),
)
