"""Multiplicative interactions."""

import itertools

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.model import Taps
from mmkd_jax.errors import UserError, choices
from mmkd_jax.models.fusion._inputs import Features, Fusion, Present, in_order
from mmkd_jax.typing import Count


class Multiplicative(Fusion):
    """Multiplicative interactions: a bilinear form of two modalities, or of each pair in low rank, and linear terms.

    Formula: fused = f_1ᵀ 𝕎 f_2 + U_1 f_1 + U_2 f_2 + b; with `rank`, of any number of modalities,
        fused = W Σ_{i < j} (A_i f_i ⊙ A_j f_j) + Σ_m U_m f_m + b

    An absent modality is 0: the linear terms of the others stay, and products of pairs that are present. If none is
    present, the result is b.

    Attributes:
        width: width of the result.
        rank: rank of the bilinear forms; None is the full tensor 𝕎, of two modalities at most.

    Raises:
        UserError: the rank is None and there are more than two modalities; before the first step.

    Source: Jayakumar et al., Multiplicative Interactions and Where to Find Them, 2020,
        https://openreview.net/forum?id=rylnK6VtDH; with `rank`: Kim et al., Hadamard Product for Low-rank Bilinear
        Pooling, 2017, https://arxiv.org/abs/1610.04325

    Example:
        >>> import jax
        >>> features, here = {"image": jnp.ones((2, 3)), "audio": jnp.ones((2, 5))}, jnp.ones(2, bool)
        >>> inputs = (features, {"image": here, "audio": here}, Taps({}))
        >>> Multiplicative(8).init_with_output(jax.random.key(0), *inputs)[0].shape
        (2, 8)
    """

    width: Count = 64
    rank: Count | None = None

    @nn.compact
    def __call__(self, features: Features, present: Present, tap: Taps) -> Float[Array, "b d"]:
        count = len(features)
        if self.rank is None and count > 2:
            remedy = f"expected a rank, such as {self.width}, for {count} modalities ({choices(features)})"
            raise UserError(f"Multiplicative: rank is None; {remedy}")
        inputs, _ = in_order(features, present)

        def dense(size, name, x, scale=1.0):
            start = nn.initializers.variance_scaling(scale, "fan_in", "truncated_normal")
            return nn.Dense(size, use_bias=False, dtype=x.dtype, kernel_init=start, name=name)(x)

        linear = jnp.sum(jnp.stack([dense(self.width, f"linear_{m}", x) for m, x in inputs.items()]), 0)
        bias = self.param("bias", nn.initializers.zeros, (self.width,)).astype(linear.dtype)
        fused = linear + bias[None]
        if count == 1:
            return fused
        if self.rank is None:
            x, y = inputs.values()
            start = nn.initializers.lecun_normal(in_axis=(0, 1), out_axis=2)
            kernel = self.param("bilinear", start, (x.shape[-1], y.shape[-1], self.width)).astype(x.dtype)
            return fused + jnp.einsum("bi,bj,ijd->bd", x, y, kernel)
        factors = [dense(self.rank, f"factor_{m}", x) for m, x in inputs.items()]
        pairs = [x * y for x, y in itertools.combinations(factors, 2)]
        return fused + dense(self.width, "out", jnp.sum(jnp.stack(pairs), 0), scale=1 / len(pairs))
