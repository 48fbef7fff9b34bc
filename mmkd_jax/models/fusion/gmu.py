"""Gated multimodal units."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.model import Taps
from mmkd_jax.models.fusion._inputs import Features, Fusion, Present, in_order, weights_of_present
from mmkd_jax.typing import Count


class GMU(Fusion):
    """Gated multimodal units: each unit weighs the modalities by a gate that sees all of them.

    Formula: h_m = tanh(V_m f_m), z = σ(W [f_1; f_2]), fused = z ⊙ h_1 + (1 − z) ⊙ h_2; with more than two modalities,
        fused = Σ_m z_m ⊙ h_m, z = softmax_{m present}(W_m [f_1; …; f_n]), which for two is the same

    The only modality present has gate 1. If none is present, gates and result are 0.

    Outputs: `gates` [b, m, d], the z; modalities in alphabetical order

    Attributes:
        width: number of units.

    Source: Arevalo et al., Gated Multimodal Units for Information Fusion, 2017, https://arxiv.org/abs/1702.01992
    Differs: for more than two modalities the paper has independent sigmoids, whose sum is not 1

    Example:
        >>> import jax
        >>> features, here = {"image": jnp.ones((2, 3)), "audio": jnp.ones((2, 5))}, jnp.ones(2, bool)
        >>> tap = Taps({})
        >>> _ = GMU(8).init_with_output(jax.random.key(0), features, {"image": here, "audio": here}, tap)
        >>> tap.outputs["gates"].shape
        (2, 2, 8)
    """

    width: Count = 64

    @nn.compact
    def __call__(self, features: Features, present: Present, tap: Taps) -> Float[Array, "b d"]:
        inputs, mask = in_order(features, present)
        values = [nn.Dense(self.width, dtype=x.dtype, name=f"value_{m}")(x) for m, x in inputs.items()]
        values = jnp.tanh(jnp.stack(values, 1))
        whole = jnp.concatenate(list(inputs.values()), -1)
        gated = sorted(inputs) if len(inputs) > 2 else sorted(inputs)[:1]
        score = [nn.Dense(self.width, dtype=whole.dtype, name=f"gate_{m}")(whole) for m in gated]
        score += [jnp.zeros_like(score[0])] * (len(inputs) - len(gated))  # a softmax of two is a sigmoid
        gates = tap("gates", weights_of_present(jnp.stack(score, 1), mask))
        return jnp.sum(gates * values, 1)
