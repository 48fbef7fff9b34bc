"""Sum of projected features."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.model import Taps
from mmkd_jax.models.fusion._inputs import Features, Fusion, Present, in_order
from mmkd_jax.typing import Count


class Sum(Fusion):
    """Mean or sum of projected features, over the modalities present.

    Formula: fused = (1 / n) Σ_{m present} (V_m f_m + b_m), with n modalities present; the sum has no 1 / n

    If none is present, the result is 0.

    Attributes:
        width: width of the projections.
        mean: divide by the number of modalities present, so that the scale does not tell how many there are.

    Source: Kiela et al., Efficient Large-Scale Multi-Modal Classification, 2018, https://arxiv.org/abs/1802.02892

    Example:
        >>> import jax
        >>> features, here = {"image": jnp.ones((2, 3)), "audio": jnp.ones((2, 5))}, jnp.ones(2, bool)
        >>> inputs = (features, {"image": here, "audio": here}, Taps({}))
        >>> Sum(8).init_with_output(jax.random.key(0), *inputs)[0].shape
        (2, 8)
    """

    width: Count = 64
    mean: bool = True

    @nn.compact
    def __call__(self, features: Features, present: Present, tap: Taps) -> Float[Array, "b d"]:
        inputs, mask = in_order(features, present)
        values = jnp.stack([nn.Dense(self.width, dtype=x.dtype, name=f"value_{m}")(x) for m, x in inputs.items()], 1)
        total = jnp.sum(jnp.where(mask[..., None], values, jnp.zeros((), values.dtype)), 1)
        if not self.mean:
            return total
        return total / jnp.maximum(jnp.sum(mask, -1, keepdims=True), 1).astype(total.dtype)
