"""BatchNorm over the rows that count, on all devices."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.losses.gather import summed
from mmkd_jax.views import Context


class BatchNorm(nn.Module):
    """Normalise each channel over the batch and all positions; padding and rows that do not count take no part.

    Formula: γ (x − μ) / √(σ² + ε) + β; in training μ and σ² are the batch's, else their running means

    `flax.linen.BatchNorm` averages the devices' means alike, however many of their rows count. Parameters and
    statistics have its names and shapes.

    Attributes:
        momentum: share of the running means that stays in each step; PyTorch's default 0.1 is 0.9 here.
        eps: ε.
    """

    momentum: float = 0.99
    eps: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "b ... c"], ctx: Context) -> Float[Array, "b ... c"]:
        channels = (x.shape[-1],)
        running = {
            "mean": self.variable("batch_stats", "mean", jnp.zeros, channels),
            "var": self.variable("batch_stats", "var", jnp.ones, channels),
        }
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        mean, var = running["mean"].value, running["var"].value
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if ctx.train:
            counts = _counts(x, ctx.where)
            n = summed(jnp.sum(counts).astype(wide.dtype), ctx.axis) * (wide[..., 0].size / counts.size)

            def average(v):
                inside = jnp.where(counts, v, 0)
                return summed(jnp.sum(inside, tuple(range(v.ndim - 1))), ctx.axis) / jnp.maximum(n, 1)

            mean = jnp.where(n > 0, average(wide), mean)
            var = jnp.where(n > 0, average((wide - _as(mean, wide)) ** 2), var)
            for name, now in (("mean", mean), ("var", var)):
                old = running[name].value
                new = self.momentum * old + (1 - self.momentum) * now.astype(old.dtype)
                running[name].value = jnp.where(n > 0, new, old)
        gain = jax.lax.rsqrt(var + self.eps) * scale
        return ((wide - _as(mean, wide)) * _as(gain, wide) + _as(bias, wide)).astype(x.dtype)


def _counts(x, where):
    """The mask with as many axes as x; one of tokens counts a row of other features if any of its tokens does."""
    if where is None:
        where = jnp.ones(x.shape[:1], bool)
    while where.shape != x.shape[: where.ndim] or where.ndim == x.ndim:
        where = jnp.any(where, -1)
    return where.reshape(where.shape + (1,) * (x.ndim - where.ndim))


def _as(x, like):
    return x.astype(like.dtype).reshape((1,) * (like.ndim - 1) + (-1,))
