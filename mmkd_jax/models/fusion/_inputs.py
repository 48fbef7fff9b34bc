"""What every fusion reads: features by modality, and which rows have the modality."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.errors import UserError
from mmkd_jax.numeric import at_least_float32
from mmkd_jax.validation import check_fields

Features = dict[str, Float[Array, "b _"]]
Present = dict[str, Bool[Array, " b"]]


def zero_absent(features: Features, present: Present) -> Features:
    """Return the features, with zeros in rows that lack the modality.

    They are replaced, not multiplied by zero, so a NaN there reaches neither value nor gradient.
    """
    return {m: jnp.where(present[m][:, None], x, jnp.zeros((), x.dtype)) for m, x in features.items()}


def in_order(features: Features, present: Present) -> tuple[Features, Bool[Array, "b m"]]:
    """Return the features in alphabetical order of their modalities, in one dtype, and the masks as columns.

    Rows without a modality have zeros, see `zero_absent`. The order makes a fusion, and the columns of its weights, the
    same for all orders in which encoders are written.
    """
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.result_type(*(x.dtype for x in features.values()))
    inputs = zero_absent(features, present)
    return {m: inputs[m].astype(dtype) for m in sorted(inputs)}, jnp.stack([present[m] for m in sorted(inputs)], -1)


def weights_of_present(score: Float[Array, "b m *d"], mask: Bool[Array, "b m"]) -> Float[Array, "b m *d"]:
    """Softmax of the scores over the modalities present, in at least float32; all are 0 if none is present."""
    mask = mask.reshape(mask.shape + (1,) * (score.ndim - 2))
    (wide,) = at_least_float32(score)
    weights = jax.nn.softmax(jnp.where(mask, wide, jnp.finfo(wide.dtype).min), 1)
    return jnp.where(mask, weights, jnp.zeros((), wide.dtype)).astype(score.dtype)


class Fusion(nn.Module):
    """Base of the fusions, which checks their attributes; `heads`, where there are any, must divide `width`."""

    def __post_init__(self):
        check_fields(self)
        width, heads = getattr(self, "width", 0), getattr(self, "heads", 1)
        if width % heads:
            raise UserError(f"{type(self).__name__}: heads is {heads}; expected a divisor of width, {width}")
        super().__post_init__()


def gives_logits(fusion: nn.Module) -> bool:
    """Return whether a fusion ends a model: its attribute `output` is "logits", not "features"."""
    return getattr(fusion, "output", "features") == "logits"
