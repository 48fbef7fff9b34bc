"""Overhaul of feature distillation (OFD)."""

import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from mmkd_jax import losses
from mmkd_jax.collectives import summed
from mmkd_jax.core.objective import Objective, mask_of, term
from mmkd_jax.nn.connectors import Linear
from mmkd_jax.numeric import at_least_float32
from mmkd_jax.typing import Scalar, Share
from mmkd_jax.validation import validated


@validated
def ofd(
    *,
    student: str,
    teacher: str,
    batch_norm: tuple[Float[Array | np.ndarray, " c"], Float[Array | np.ndarray, " c"]] | None = None,
    momentum: Share = 0.99,
    weight: Scalar = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Overhaul of feature distillation (OFD): partial L2 distance between pre-ReLU features, with a margin ReLU.

    Formula: Σ_i 1[s_i > τ_i or τ_i > 0] (s_i − τ_i)², τ = max(t, m), s connected, m_c = E[t_c | t_c < 0] per channel

    Args:
        student: path of the student's pre-activations [b, ..., c], before a ReLU.
        teacher: path of the teacher's pre-activations [b, ..., d], of the same size except for the channels.
        batch_norm: bias and scale of the teacher's BatchNorm before that ReLU: they give m in closed form, treating the
            outputs of BatchNorm as Gaussian. None estimates m as a running mean over batches.
        momentum: momentum of the running mean.
        weight: loss weight; the authors use 2^(i − n) / 1000 for the i-th of n layers.
        where: batch mask(s) of the rows that count.

    Returns:
        An objective with a linear map and its BatchNorm as parameters; its state has the BatchNorm statistics and m.

    Topic: features
    Compares: features before a ReLU
    Extra: trains a connector with BatchNorm (on maps a 1×1 convolution); keeps the margins
    Source: Heo et al., A Comprehensive Overhaul of Feature Distillation, 2019, https://arxiv.org/abs/1904.01866
    Differs: mdistiller runs the teacher in training mode; here its BatchNorm statistics are fixed

    Example:
        >>> path = "preactivation.image.0"
        >>> overhaul = ofd(student=f"student.{path}", teacher=f"teacher.{path}", weight=1e-3)
    """

    def matched(outputs):
        connect = {"student": Linear(outputs[teacher].shape[-1], batch_norm=True)}
        return term(
            losses.ofd,
            student=student,
            teacher=teacher,
            margin="ofd.margin",
            connect=connect,
            weight=weight,
            where=where,
        )

    def init(outputs):
        channels = outputs[teacher].shape[-1]
        params, state = matched(outputs).init(outputs)
        if batch_norm is not None:
            return params, state | {"margin": {"mean": jnp.broadcast_to(negative_mean(*batch_norm), (channels,))}}
        state["hyperparams"]["momentum"] = np.float32(momentum)
        return params, state | {"margin": {"sum": jnp.zeros(channels), "share": jnp.zeros(channels)}}

    def apply(params, state, outputs):
        margin, hyperparams = state["margin"], dict(state["hyperparams"])
        if batch_norm is None:
            batch_stats = _negatives(stop_gradient(outputs[teacher]), mask_of(outputs, where), outputs.ctx.axis_name)
            m = hyperparams.pop("momentum")
            margin = {k: m * margin[k] + (1 - m) * v for k, v in batch_stats.items()} if outputs.ctx.train else margin
        mean = margin["mean"] if "mean" in margin else _ratio(margin["sum"], margin["share"])
        inner = state | {"hyperparams": hyperparams}
        out, new_state = matched(outputs).apply(params, inner, outputs.add(ofd={"margin": mean}))
        return out, new_state | {"hyperparams": state["hyperparams"], "margin": margin}

    return Objective(init, apply)


def negative_mean(bias: Float[Array | np.ndarray, " c"], scale: Float[Array | np.ndarray, " c"]) -> Float[Array, " c"]:
    """Return E[x | x < 0] of a Gaussian, per channel; −3 standard deviations if P(x < 0) ≤ 0.001.

    Args:
        bias: mean of the Gaussian [c].
        scale: standard deviation of the Gaussian [c]; the sign is ignored.

    Example:
        >>> negative_mean(jnp.zeros(1), jnp.ones(1))  # −√(2 / π)
        Array([-0.7978846], dtype=float32)
    """
    mean, deviation = jnp.asarray(bias), jnp.maximum(jnp.abs(jnp.asarray(scale)), 1e-12)
    below = norm.cdf(-mean / deviation)
    rare = below <= 0.001
    return jnp.where(rare, -3 * deviation, mean - deviation * norm.pdf(mean / deviation) / jnp.where(rare, 1, below))


def _negatives(x, where, axis_name):
    """Return the per-channel sum and number of negative values, per unmasked value of the global batch."""
    (x,) = at_least_float32(x)
    mask = jnp.ones(x.shape[:1], bool) if where is None else where
    mask = jnp.broadcast_to(mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)), x.shape)
    axes = tuple(range(x.ndim - 1))
    below = mask & (x < 0)
    sums = jnp.sum(jnp.where(below, x, 0), axes), jnp.sum(below, axes), jnp.sum(mask, axes)
    total, negative, count = (summed(v, axis_name) for v in sums)
    count = jnp.maximum(count, 1).astype(x.dtype)
    return {"sum": total / count, "share": negative.astype(x.dtype) / count}


def _ratio(total, share):
    """Return total / share; 0 without any negative values so far."""
    return jnp.where(share > 0, total / jnp.where(share > 0, share, 1), 0)
