"""BatchNorm with masked statistics, synchronized across devices."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.collectives import summed
from mmkd_jax.core.model import StepContext


class BatchNorm(nn.Module):
    """Batch normalization over batch and positions, excluding padding and masked rows from the statistics.

    Formula: γ (x − μ) / √(σ² + ε) + β; μ and σ² are the batch statistics in training, else the running averages

    Differs from `flax.linen.BatchNorm`, which weights all devices equally, regardless of how many of their rows are
    unmasked. Parameters and statistics have the same names and shapes.

    Attributes:
        momentum: decay of the running averages per step; PyTorch's default of 0.1 is 0.9 here.
        eps: ε, added to the variance.
    """

    momentum: float = 0.99
    eps: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "b ... c"], ctx: StepContext) -> Float[Array, "b ... c"]:
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
            mask = _mask(x, ctx.where)
            n = summed(jnp.sum(mask).astype(wide.dtype), ctx.axis_name) * (wide[..., 0].size / mask.size)

            def average(v):
                inside = jnp.where(mask, v, 0)
                return summed(jnp.sum(inside, tuple(range(v.ndim - 1))), ctx.axis_name) / jnp.maximum(n, 1)

            mean = jnp.where(n > 0, average(wide), mean)
            var = jnp.where(n > 0, average((wide - _as(mean, wide)) ** 2), var)
            for name, batch_value in (("mean", mean), ("var", var)):
                old = running[name].value
                new = self.momentum * old + (1 - self.momentum) * batch_value.astype(old.dtype)
                running[name].value = jnp.where(n > 0, new, old)
        gain = jax.lax.rsqrt(var + self.eps) * scale
        return ((wide - _as(mean, wide)) * _as(gain, wide) + _as(bias, wide)).astype(x.dtype)


def _mask(x, where):
    """The mask with as many axes as x; without a token axis in x, a row counts if any of its tokens does."""
    if where is None:
        where = jnp.ones(x.shape[:1], bool)
    while where.shape != x.shape[: where.ndim] or where.ndim == x.ndim:
        where = jnp.any(where, -1)
    return where.reshape(where.shape + (1,) * (x.ndim - where.ndim))


def _as(x, like):
    return x.astype(like.dtype).reshape((1,) * (like.ndim - 1) + (-1,))
