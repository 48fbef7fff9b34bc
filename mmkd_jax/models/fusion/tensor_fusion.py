"""Tensor fusion."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.model import Taps
from mmkd_jax.models.fusion._inputs import Features, Fusion, Present, in_order
from mmkd_jax.typing import Count


class TensorFusion(Fusion):
    """Tensor fusion: the outer product of all modalities, each with a constant 1, which keeps the lower orders.

    Formula: fused = ⊗_m [1; V_m f_m + b_m], flattened, with modalities in alphabetical order: (width + 1)^n numbers for
        n modalities

    An absent modality is [1; 0]: products with it are 0, those of the others stay. If none is present, the result is 1
    in its first entry and 0 elsewhere. For three or more modalities, `LowRank` is much smaller.

    Attributes:
        width: width of the projections.

    Source: Zadeh et al., Tensor Fusion Network for Multimodal Sentiment Analysis, 2017,
        https://arxiv.org/abs/1707.07250

    Example:
        >>> import jax
        >>> features, here = {"image": jnp.ones((2, 3)), "audio": jnp.ones((2, 5))}, jnp.ones(2, bool)
        >>> inputs = (features, {"image": here, "audio": here}, Taps({}))
        >>> TensorFusion(8).init_with_output(jax.random.key(0), *inputs)[0].shape
        (2, 81)
    """

    width: Count = 16

    @nn.compact
    def __call__(self, features: Features, present: Present, tap: Taps) -> Float[Array, "b d"]:
        inputs, mask = in_order(features, present)
        fused = jnp.ones_like(next(iter(inputs.values()))[:, :1])
        for i, (m, x) in enumerate(inputs.items()):
            value = nn.Dense(self.width, dtype=x.dtype, name=f"value_{m}")(x)
            value = jnp.where(mask[:, i, None], value, jnp.zeros((), x.dtype))
            value = jnp.concatenate([jnp.ones_like(value[:, :1]), value], -1)
            product = fused[:, :, None] * value[:, None, :]
            fused = product.reshape(product.shape[0], product.shape[1] * product.shape[2])
        return fused
