"""Low-rank multimodal fusion."""

import functools
import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.model import Taps
from mmkd_jax.models.fusion._inputs import Features, Fusion, Present, in_order
from mmkd_jax.typing import Count


class LowRank(Fusion):
    """Low-rank multimodal fusion: a linear map of tensor fusion, factorized so that the tensor is never formed.

    Formula: fused = Σ_r w_r ∏_m (F_m^r [1; f_m]) + b

    An absent modality is [1; 0]: its factor is that of the constant 1, which leaves the products of the others. If none
    is present, the result is a learned constant.

    Factors begin with variance 1 for features of variance 1, half of it from the 1 and half from f_m, so that products
    neither vanish nor explode with the number of modalities, whichever are present; w_r begins with variance 1 / rank.

    Attributes:
        width: width of the result.
        rank: number of products r.

    Source: Liu et al., Efficient Low-rank Multimodal Fusion with Modality-Specific Factors, 2018,
        https://arxiv.org/abs/1806.00064
    Differs: the authors' initializer takes the rank as fan-in, so that the products of three modalities nearly vanish

    Example:
        >>> import jax
        >>> features, here = {"image": jnp.ones((2, 3)), "audio": jnp.ones((2, 5))}, jnp.ones(2, bool)
        >>> inputs = (features, {"image": here, "audio": here}, Taps({}))
        >>> LowRank(8, rank=4).init_with_output(jax.random.key(0), *inputs)[0].shape
        (2, 8)
    """

    width: Count = 64
    rank: Count = 4

    @nn.compact
    def __call__(self, features: Features, present: Present, tap: Taps) -> Float[Array, "b d"]:
        inputs, _ = in_order(features, present)
        half, size = nn.initializers.variance_scaling(0.5, "fan_in", "normal"), self.rank * self.width
        constant = nn.initializers.normal(math.sqrt(0.5))

        def factor(m, x):
            dense = nn.Dense(size, dtype=x.dtype, kernel_init=half, bias_init=constant, name=f"factor_{m}")
            return dense(x).reshape(x.shape[0], self.rank, self.width)

        product = functools.reduce(jnp.multiply, [factor(m, x) for m, x in inputs.items()])
        weight = self.param("weight", nn.initializers.normal(self.rank**-0.5), (self.rank,))
        bias = self.param("bias", nn.initializers.zeros, (self.width,)).astype(product.dtype)
        return jnp.einsum("r,brd->bd", weight.astype(product.dtype), product) + bias[None]
