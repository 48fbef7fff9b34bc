"""Heads: `embedding -> task output`."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


class Classifier(nn.Module):
    """Linear classifier with logits in at least float32.

    Attributes:
        classes: number of classes.
    """

    classes: int

    @nn.compact
    def __call__(self, x: Float[Array, "... d"]) -> Float[Array, "... c"]:
        logits = nn.Dense(self.classes)(x)
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
