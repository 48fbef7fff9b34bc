"""Overhaul of feature distillation, with its connector and its margins."""

import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from mmkd_jax import losses
from mmkd_jax.arguments import held
from mmkd_jax.connectors import Linear
from mmkd_jax.losses.gather import summed
from mmkd_jax.losses.number import Number, Share
from mmkd_jax.losses.numeric import at_least_float32
from mmkd_jax.objective import Objective, mask_of, term


@held
def ofd(
    *,
    student: str,
    teacher: str,
    batch_norm: tuple[Float[Array | np.ndarray, " c"], Float[Array | np.ndarray, " c"]] | None = None,
    momentum: Share = 0.99,
    weight: Number = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Overhaul of feature distillation (OFD): match what the teacher's ReLU lets through; keep the rest low enough.

    Formula: Σ_i 1[s_i > τ_i or τ_i > 0] (s_i − τ_i)², τ = max(t, m), s connected, m_c = E[t_c | t_c < 0] per channel

    Args:
        student: path of the student's pre-activations [b, ..., c], in front of a ReLU.
        teacher: path of the teacher's pre-activations [b, ..., d], of the same size but for the channels.
        batch_norm: bias and scale of the teacher's BatchNorm in front of that ReLU: they give m in closed form, as
            BatchNorm's results are taken for Gaussian. Without them m is a running mean over the batches.
        momentum: of the running mean.
        weight: of the term; the authors' is 2^(i − n) / 1000 for the i-th of n layers.
        where: mask(s) of the batch.

    Returns:
        An objective with a linear map and its BatchNorm as parameters; BatchNorm's statistics and m are memory.

    Topic: features
    Compares: features in front of a ReLU
    Extra: trains a connector with BatchNorm (on maps a 1×1 convolution); remembers the margins
    Source: Heo et al., A Comprehensive Overhaul of Feature Distillation, 2019, https://arxiv.org/abs/1904.01866
    Differs: mdistiller runs the teacher in training mode; here its BatchNorm statistics never move

    Example:
        >>> path = "preactivation.image.0"
        >>> overhaul = ofd(student=f"student.{path}", teacher=f"teacher.{path}", weight=1e-3)
    """

    def matched(views):
        connect = {"student": Linear(views[teacher].shape[-1], batch_norm=True)}
        return term(
            losses.ofd,
            student=student,
            teacher=teacher,
            margin="ofd.margin",
            connect=connect,
            weight=weight,
            where=where,
        )

    def init(views):
        channels = views[teacher].shape[-1]
        params, memory = matched(views).init(views)
        if batch_norm is not None:
            return params, memory | {"margin": {"mean": jnp.broadcast_to(negative_mean(*batch_norm), (channels,))}}
        memory["numbers"]["momentum"] = np.float32(momentum)
        return params, memory | {"margin": {"sum": jnp.zeros(channels), "share": jnp.zeros(channels)}}

    def apply(params, memory, views):
        margin, numbers = memory["margin"], dict(memory["numbers"])
        if batch_norm is None:
            seen = _negatives(stop_gradient(views[teacher]), mask_of(views, where), views.ctx.axis)
            m = numbers.pop("momentum")
            margin = {k: m * margin[k] + (1 - m) * seen[k] for k in seen} if views.ctx.train else margin
        mean = margin["mean"] if "mean" in margin else _ratio(margin["sum"], margin["share"])
        inner = memory | {"numbers": numbers}
        out, after = matched(views).apply(params, inner, views.add(ofd={"margin": mean}))
        return out, after | {"numbers": memory["numbers"], "margin": margin}

    return Objective(init, apply)


def negative_mean(bias: Float[Array | np.ndarray, " c"], scale: Float[Array | np.ndarray, " c"]) -> Float[Array, " c"]:
    """E[x | x < 0] of a Gaussian, per channel; −3 standard deviations where fewer than one in a thousand is below 0.

    Args:
        bias: its mean [c].
        scale: its standard deviation [c], of any sign.

    Example:
        >>> negative_mean(jnp.zeros(1), jnp.ones(1))  # −√(2 / π)
        Array([-0.7978846], dtype=float32)
    """
    mean, deviation = jnp.asarray(bias), jnp.maximum(jnp.abs(jnp.asarray(scale)), 1e-12)
    below = norm.cdf(-mean / deviation)
    rare = below <= 0.001
    return jnp.where(rare, -3 * deviation, mean - deviation * norm.pdf(mean / deviation) / jnp.where(rare, 1, below))


def _negatives(x, where, axis):
    """The sum and the number of negative values of a channel, over all values of the global batch that count."""
    (x,) = at_least_float32(x)
    mask = jnp.ones(x.shape[:1], bool) if where is None else where
    mask = jnp.broadcast_to(mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)), x.shape)
    axes = tuple(range(x.ndim - 1))
    below = mask & (x < 0)
    sums = jnp.sum(jnp.where(below, x, 0), axes), jnp.sum(below, axes), jnp.sum(mask, axes)
    total, negative, count = (summed(v, axis) for v in sums)
    count = jnp.maximum(count, 1).astype(x.dtype)
    return {"sum": total / count, "share": negative.astype(x.dtype) / count}


def _ratio(total, share):
    """0 where no negative value has been seen."""
    return jnp.where(share > 0, total / jnp.where(share > 0, share, 1), 0)
