"""Gated fusion: a weighted sum of projected features."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.model import Taps
from mmkd_jax.models.fusion._inputs import Features, Present, zero_absent


class Gated(nn.Module):
    """Gated fusion: a weighted sum of projected features, with a softmax over the modalities present.

    Formula: g = softmax_{m present}(w_m · f_m), fused = Σ_m g_m V_m f_m

    Attributes:
        width: width of the projections.
    """

    width: int = 64

    @nn.compact
    def __call__(self, features: Features, present: Present, tap: Taps) -> Float[Array, "b d"]:
        inputs = zero_absent(features, present)
        score = jnp.concatenate([nn.Dense(1, name=f"gate_{m}")(x) for m, x in inputs.items()], -1)
        mask = jnp.stack([present[m] for m in features], -1)
        weights = jax.nn.softmax(jnp.where(mask, score, jnp.finfo(score.dtype).min), -1)
        weights = tap("gates", jnp.where(mask, weights, jnp.zeros((), weights.dtype)))  # all zero if none is present
        values = [nn.Dense(self.width, name=f"value_{m}")(x) for m, x in inputs.items()]
        return jnp.einsum("bm,bmd->bd", weights, jnp.stack(values, 1))
