"""Concatenation."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.model import Taps
from mmkd_jax.models.fusion._inputs import Features, Present, in_order


class Concat(nn.Module):
    """Concatenation of the features, in the order of the encoders, with zeros for absent modalities.

    Formula: [f_1; f_2; …]

    If none is present, all are zeros.
    """

    @nn.compact
    def __call__(self, features: Features, present: Present, tap: Taps) -> Float[Array, "b d"]:
        inputs, _ = in_order(features, present)
        return jnp.concatenate([inputs[m] for m in features], -1)
