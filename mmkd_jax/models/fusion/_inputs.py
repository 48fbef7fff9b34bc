"""What every fusion reads: features by modality, and which rows have the modality."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Features = dict[str, Float[Array, "b _"]]
Present = dict[str, Bool[Array, " b"]]


def zero_absent(features: Features, present: Present) -> Features:
    """Return the features, with zeros in rows that lack the modality.

    They are replaced, not multiplied by zero, so a NaN there reaches neither value nor gradient.
    """
    return {m: jnp.where(present[m][:, None], x, jnp.zeros((), x.dtype)) for m, x in features.items()}


def gives_logits(fusion: nn.Module) -> bool:
    """Return whether a fusion ends a model: its attribute `output` is "logits", not "features"."""
    return getattr(fusion, "output", "features") == "logits"
