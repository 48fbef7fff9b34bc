"""Implementations of losses between logits."""

import jax
import jax.numpy as jnp

from mmkd_jax import losses
from tests.losses.golden.recorded import Golden


def temperature(h):
    return next((h[k] for k in ("T", "temperature", "tau", "temp") if k in h), 1.0)


def kl(h, s, t, **_):
    values = losses.kl(s, t, temperature=temperature(h))
    return values if h.get("reduction") == "none" else jnp.mean(values)


def kl_of_classes(h, s, t):
    return jnp.mean(losses.kl(s, t, temperature=temperature(h))) / s.shape[-1]


def kl_without_square(h, s, t, y=None):
    values = jnp.mean(losses.kl(s, t, temperature=temperature(h))) / temperature(h) ** 2
    return values / (s.shape[-1] if h.get("reduction") == "mean" else 1)


def task_and_kl(h, s, t, y):
    """torchdistill: β is 1 − α unless given."""
    beta = 1 - h["alpha"] if h["beta"] is None else h["beta"]
    kd = jnp.mean(losses.kl(s, t, temperature=temperature(h)))
    return h["alpha"] * jnp.mean(losses.cross_entropy(s, y)) + beta * kd


def kl_and_task(h, s, t, y):
    kd = jnp.mean(losses.kl(s, t, temperature=temperature(h)))
    return h["alpha"] * kd + (1 - h["alpha"]) * jnp.mean(losses.cross_entropy(s, y))


def probabilities_and_task(h, s, t, y):
    w = h["distil_weight"]
    mse = jnp.mean(losses.probability_mse(s, t, temperature=temperature(h)))
    return w * mse + (1 - w) * jnp.mean(losses.cross_entropy(s, y))


def kd_lib_with_kl(h, s, t, y):
    return kl_and_task(h | {"alpha": h["distil_weight"]}, s, t, y)


def soft_cross_entropy(h, s, t):
    return jnp.mean(_soft(s, t, temperature(h)))


def _soft(s, t, temperature):
    temperature = jnp.asarray(temperature)[..., None]
    return losses.cross_entropy(s / temperature, jax.nn.softmax(t / temperature))


def focal_temperature(h, s, t):
    """FLSW: a lower temperature where the two disagree; it gets no gradient."""
    a, b = (x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-4) for x in (s, t))
    w = (1 - jnp.sum(a * b, -1)) ** h["gamma"]
    return jnp.mean(_soft(s, t, jax.lax.stop_gradient(h["base"] + (jnp.mean(w) - w) * h["beta"])))


def confident_temperature(h, s, t):
    """CWSM: a lower temperature where the student is not sure; it gets no gradient."""
    w = 1 / (jnp.max(jax.nn.softmax(s), -1) + 1e-3)
    return jnp.mean(_soft(s, t, jax.lax.stop_gradient(h["base"] + (jnp.mean(w) - w) * h["beta"])))


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
    return jnp.mean(losses.cross_entropy(s, y, label_smoothing=h.get("label_smoothing", 0.0)))


def soft_labels(h, s, **given):
    (labels,) = given.values()
    return jnp.mean(losses.cross_entropy(s, labels))


def binary(h, s, **given):
    (labels,) = given.values()
    return jnp.mean(losses.binary_cross_entropy(s, labels))


def nkd(h, s, t, y):
    return jnp.mean(losses.nkd(s, t, y, gamma=h["gamma"], temperature=temperature(h)))


def dist(eps):
    def ours(h, s, t):
        beta, gamma = h.get("beta", h.get("inter")), h.get("gamma", h.get("intra"))
        return jnp.mean(losses.dist(s, t, beta=beta, gamma=gamma, temperature=temperature(h), eps=eps))

    return ours


def standardized(loss):
    def ours(h, s, t, **more):
        return loss(h, losses.standardize(s), losses.standardize(t), **more)

    return ours


def standardized_and_task(h, s, t, y):
    kd = jnp.mean(losses.kl(losses.standardize(s), losses.standardize(t), temperature=temperature(h)))
    return h["alpha"] * jnp.mean(losses.cross_entropy(s, y)) + h["beta"] * kd


def wsld(h, s, t, y):
    return jnp.mean(losses.wsld(s, t, y, temperature=temperature(h)))


def mft(h, s, t, y):
    return jnp.mean(losses.mft(s, t, y, threshold=h["threshold"], temperature=temperature(h)))


def mlkd_batch(h, s, t):
    return jnp.mean(losses.mlkd_batch(s, t, temperature=temperature(h)))


def mlkd_class(h, s, t):
    return losses.mlkd_class(s, t, temperature=temperature(h))


def log_sum(h, s, f, t, ft):
    squares = jnp.sum(losses.hint(f, ft)) * f[0].size
    return 2 * jnp.log(squares) + kl_without_square(h, s, t)


def masked(h, s, f, t, ft, y):
    """MaxText: means over the tokens with a label; those of a feature also over its layers, which come first."""
    valid = (y >= 0) & (y < s.shape[-1])

    def mean(values):
        return jnp.sum(jnp.where(valid, values, 0)) / jnp.maximum(jnp.sum(valid), 1)

    kd = mean(losses.kl(s, t, temperature=temperature(h)))
    task = mean(losses.cross_entropy(s, jnp.where(valid, y, 0)))
    feature = losses.cosine(f, ft) if h["feature"] == "cosine" else jnp.mean((f - ft) ** 2, -1)
    feature = mean(jnp.mean(feature, 0))
    return h["alpha"] * kd + (1 - h["alpha"]) * task + h["beta_feature"] * feature


def plain_jsd(h, s, t, y):
    return jsd(h | {"reduction": "batchmean"}, s, t, y)


def plain_logit_mse(h, s, t):
    return jnp.mean(losses.logit_mse(s, t))


ROWS = (
    Golden("kd.*", "equal", "T² KL, summed over classes, mean over the batch.", kl),
    Golden("kd.ModelOpt.*_mean", "composed", "Its default also divides by the number of classes.", kl_of_classes, kl),
    Golden("kd.mmrazor.*_mean", "composed", "This reduction also divides by the number of classes.", kl_of_classes, kl),
    Golden("kd.torchdistill.*", "composed", "α cross-entropy and β KL, β = 1 − α by default.", task_and_kl),
    Golden("kd.torchdistill.*_a0", "composed", "With α = 0 it drops T²: KL without it.", kl_without_square, kl),
    Golden("kd.attention-transfer.*", "composed", "α KL and 1 − α cross-entropy.", kl_and_task),
    Golden("kd.cls_KD.*", "composed", "KL and the teacher's entropy, times α: the same gradient.", kl_and_entropy, kl),
    Golden(
        "kd.KD_Lib.*",
        "composed",
        "Its default is the MSE of probabilities: probability_mse.",
        probabilities_and_task,
        paper=kd_lib_with_kl,
    ),
    Golden("kd_ce.TextBrewer.*", "composed", "Soft cross-entropy without T².", soft_cross_entropy, kl),
    Golden("kd_ce.TextBrewer.*_flsw", "composed", "The same with a temperature per example.", focal_temperature),
    Golden("kd_ce.TextBrewer.*_cwsm", "composed", "The same with a temperature per example.", confident_temperature),
    Golden("kd_mse.TextBrewer.*", "composed", "The mean square of logits divided by T.", logit_mse, plain_logit_mse),
    Golden("tunix_logit.*", "composed", "α KL and 1 − α cross-entropy.", kl_and_task),
    Golden("maxtext_combined.*", "composed", "KL, cross-entropy and a feature loss over the valid tokens.", masked),
    Golden("keras_logits.*", "equal", "It clips probabilities at 1e-7, which these logits do not reach.", kl),
    Golden("keras_logits_default.*", "differs", "Its default takes KL of clipped raw logits, no softmax: not KD.", kl),
    Golden("kl_div.torch.*", "composed", "KL without T².", kl_without_square, kl),
    Golden("kl_div.torch.*_none", "not offered", "The summands of each class; ours is their sum over classes."),
    Golden("optax_kl.*", "composed", "KL without T².", kl_without_square, kl),
    Golden("skd_inst.torchdistill.*", "composed", "KL without T².", kl_without_square, kl),
    Golden("skd_dir.torchdistill.*", "not offered", "A Mahalanobis distance of similarities."),
    Golden("sskd*", "not offered", "Self-supervision on rotated copies of the batch: a way of training, no loss."),
    Golden("srd.torchdistill", "composed", "Twice the log of the batch's summed squares, and KL without T².", log_sum),
    Golden("gkd_jsd.trl.*", "composed", "Summed over the valid tokens, divided as its reduction says.", jsd, plain_jsd),
    Golden("dkd.*", "equal", "The weighted parts, with T².", dkd),
    Golden("dkd.mdistiller.big", "differs", "log(softmax) underflows there; ours is finite."),
    Golden("ce.torch.*", "equal", "Smoothing towards the uniform distribution over all classes.", cross_entropy),
    Golden("soft_ce.torch.*", "equal", "Labels that are probabilities.", soft_labels),
    Golden("bce.torch.*", "equal", "The mean over classes and batch.", binary),
    Golden("nkd.*", "equal", "The teacher-weighted target and the others, with T².", nkd),
    Golden("dist.*", "equal", "1e-8 added to the product of norms: eps='added'.", dist("added")),
    Golden("dist.torchdistill.*", "equal", "Each norm clamped at 1e-8: eps='clamped'.", dist("clamped")),
    Golden(
        "dist_plus.*",
        "not offered",
        "It adds a correlation where 1 − correlation is meant: the best student is the worst.",
    ),
    Golden("lskd.*", "composed", "standardize before kl.", standardized(kl)),
    Golden(
        "lskd.torchdistill.*", "composed", "α cross-entropy and β KL of standardized logits.", standardized_and_task
    ),
    Golden("lsdkd.*", "composed", "standardize before dkd.", standardized(dkd)),
    Golden("wsld.*", "equal", "Their weight goes through float32.", wsld, single=True),
    Golden("mft.*", "equal", "The authors' 1e-7 included.", mft),
    Golden("mlkd_bc.*", "equal", "Over rows, ‖·‖² / n.", mlkd_batch),
    Golden("mlkd_cc.*", "equal", "Over classes, ‖·‖² / C.", mlkd_class),
)
