"""Fusions: `(features of each modality, which are present, tap) -> fused` [b, d]."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.views import Taps

Features = dict[str, Float[Array, "b _"]]
Present = dict[str, Bool[Array, " b"]]


class Concat(nn.Module):
    """The features side by side; zeros in the place of an absent modality."""

    @nn.compact
    def __call__(self, features: Features, present: Present, tap: Taps) -> Float[Array, "b d"]:
        return jnp.concatenate([_here(x, present[m]) for m, x in features.items()], -1)


class Gated(nn.Module):
    """A weighted sum of projected features; the weights are a softmax over the modalities that are present.

    Formula: g = softmax_{m present}(w_m · f_m), fused = Σ_m g_m V_m f_m

    Attributes:
        width: of the projections.
    """

    width: int = 64

    @nn.compact
    def __call__(self, features: Features, present: Present, tap: Taps) -> Float[Array, "b d"]:
        seen = {m: _here(x, present[m]) for m, x in features.items()}
        score = jnp.concatenate([nn.Dense(1, name=f"gate_{m}")(x) for m, x in seen.items()], -1)
        there = jnp.stack([present[m] for m in features], -1)
        weights = jax.nn.softmax(jnp.where(there, score, jnp.finfo(score.dtype).min), -1)
        weights = tap("gates", jnp.where(there, weights, jnp.zeros((), weights.dtype)))  # no modality at all: no weight
        values = [nn.Dense(self.width, name=f"value_{m}")(x) for m, x in seen.items()]
        return jnp.einsum("bm,bmd->bd", weights, jnp.stack(values, 1))


def _here(x, present):
    return jnp.where(present[:, None], x, jnp.zeros((), x.dtype))
