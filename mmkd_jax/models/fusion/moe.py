"""Mixture of experts."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.model import Taps
from mmkd_jax.errors import UserError
from mmkd_jax.models.fusion._inputs import Features, Fusion, Present, in_order
from mmkd_jax.numeric import at_least_float32, largest
from mmkd_jax.typing import Count


class MoE(Fusion):
    """Mixture of experts: each row is fused by the few experts that a router picks for it.

    Formula: x = [f_1; …; f_n; presence], p = softmax(W x + b), fused = Σ_{e in top k} g_e E_e(x), with
        g_e = p_e / Σ_{top k} p, or p_e for k = 1, and E_e(x) = W₂ relu(W₁ x + b₁) + b₂

    Absent modalities are 0, and router and experts see which ones are. If none is present, the result is a learned
    constant. All experts are computed, and no row is dropped. Of equal probabilities, the first expert is picked.

    Add `losses.load_balancing` of `router`, so that all experts are used.

    Outputs: `router` [b, e], the p in at least float32; `gates` [b, e], the g, which are 0 for experts not picked

    Attributes:
        experts: number of experts.
        width: width of the result and of the experts' hidden layer.
        top_k: number of experts for each row, k.

    Raises:
        UserError: `top_k` is more than `experts`.

    Source: Shazeer et al., Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer, 2017,
        https://arxiv.org/abs/1701.06538; k = 1: Fedus et al., Switch Transformers, 2021,
        https://arxiv.org/abs/2101.03961
    Differs: no noise is added to the router, and experts have no capacity

    Example:
        >>> features, here = {"image": jnp.ones((2, 3)), "audio": jnp.ones((2, 5))}, jnp.ones(2, bool)
        >>> tap = Taps({})
        >>> _ = MoE(4, width=8).init_with_output(jax.random.key(0), features, {"image": here, "audio": here}, tap)
        >>> (tap.outputs["gates"] > 0).sum(-1).tolist()
        [2, 2]
    """

    experts: Count = 4
    width: Count = 64
    top_k: Count = 2

    def __post_init__(self):
        super().__post_init__()
        if self.top_k > self.experts:
            raise UserError(f"MoE: top_k is {self.top_k}; expected at most the number of experts, {self.experts}")

    @nn.compact
    def __call__(self, features: Features, present: Present, tap: Taps) -> Float[Array, "b d"]:
        inputs, mask = in_order(features, present)
        x = jnp.concatenate(list(inputs.values()), -1)
        x = jnp.concatenate([x, mask.astype(x.dtype)], -1)
        (wide,) = at_least_float32(x)
        p = tap("router", jax.nn.softmax(nn.Dense(self.experts, dtype=wide.dtype, name="router")(wide), -1))
        picked = jnp.where(largest(p, self.top_k), p, jnp.zeros((), p.dtype))
        total = jnp.sum(picked, -1, keepdims=True)
        gates = tap("gates", picked if self.top_k == 1 else picked / jnp.where(total > 0, total, 1))
        start = nn.initializers.lecun_normal(in_axis=-2, out_axis=-1, batch_axis=(0,))

        def layer(name, y, equation):
            kernel = self.param(f"{name}_kernel", start, (self.experts, y.shape[-1], self.width))
            bias = self.param(f"{name}_bias", nn.initializers.zeros, (self.experts, self.width))
            return jnp.einsum(equation, y, kernel.astype(y.dtype)) + bias.astype(y.dtype)[None]

        y = layer("shrink", nn.relu(layer("grow", x, "bi,eio->beo")), "bei,eio->beo")
        return jnp.einsum("be,bed->bd", gates.astype(y.dtype), y)
