"""Gated fusion: a weighted sum of projected features."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.model import Taps
from mmkd_jax.models.fusion._inputs import Features, Present, in_order, weights_of_present


class Gated(nn.Module):
    """Gated fusion: a weighted sum of projected features, with a softmax over the modalities present.

    Formula: g = softmax_{m present}(w_m · f_m), fused = Σ_m g_m V_m f_m

    Outputs: `gates` [b, m], the weights g; columns in alphabetical order of the modalities

    If none is present, gates and result are 0.

    Attributes:
        width: width of the projections.
    """

    width: int = 64

    @nn.compact
    def __call__(self, features: Features, present: Present, tap: Taps) -> Float[Array, "b d"]:
        inputs, mask = in_order(features, present)
        score = [nn.Dense(1, dtype=x.dtype, name=f"gate_{m}")(x) for m, x in inputs.items()]
        weights = tap("gates", weights_of_present(jnp.concatenate(score, -1), mask))
        values = [nn.Dense(self.width, dtype=x.dtype, name=f"value_{m}")(x) for m, x in inputs.items()]
        return jnp.einsum("bm,bmd->bd", weights, jnp.stack(values, 1))
