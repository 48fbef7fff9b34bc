"""Concatenation."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.model import Taps
from mmkd_jax.models.fusion._inputs import Features, Present, zero_absent


class Concat(nn.Module):
    """Concatenation of the features, with zeros for absent modalities."""

    @nn.compact
    def __call__(self, features: Features, present: Present, tap: Taps) -> Float[Array, "b d"]:
        return jnp.concatenate(list(zero_absent(features, present).values()), -1)
