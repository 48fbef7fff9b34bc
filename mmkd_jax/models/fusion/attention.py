"""Attention over modalities."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.model import StepContext, Taps
from mmkd_jax.models.fusion._inputs import Features, Fusion, Present, in_order
from mmkd_jax.nn.transformer import Layer, Transformer, TransformerConfig
from mmkd_jax.typing import Count


class Attention(Fusion):
    """Attention over modalities: a Transformer with one token for each and a class token, which is the result.

    Formula: x = [c; V_1 f_1 + b_1; …; V_n f_n + b_n]; x ← x + MHA(LN(x)), x ← x + W₂ gelu(W₁ LN(x)) in each layer;
        fused = LN(x)_0

    Absent modalities are masked as keys. If none is present, the result is a learned constant.

    Outputs: `attentions.fusion.i` [b, heads, 1 + m, 1 + m] of layer i, with the class token first and modalities in
    alphabetical order; `scores`, `queries`, `keys`, `values` likewise; `hidden.fusion.0` [b, 1 + m, d], the tokens,
    and `hidden.fusion.i` after i layers

    Attributes:
        width: width of the tokens.
        heads: number of attention heads; must divide the width.
        layers: number of layers.

    Raises:
        UserError: `heads` does not divide `width`.

    Source: Gorishniy et al., Revisiting Deep Learning Models for Tabular Data, 2021, https://arxiv.org/abs/2106.11959,
        with modalities in place of columns

    Example:
        >>> features, here = {"image": jnp.ones((2, 3)), "audio": jnp.ones((2, 5))}, jnp.ones(2, bool)
        >>> inputs = (features, {"image": here, "audio": here}, Taps({}))
        >>> Attention(8, heads=2).init_with_output(jax.random.key(0), *inputs)[0].shape
        (2, 8)
    """

    width: Count = 64
    heads: Count = 4
    layers: Count = 1

    @nn.compact
    def __call__(self, features: Features, present: Present, tap: Taps) -> Float[Array, "b d"]:
        inputs, mask = in_order(features, present)
        tokens = [nn.Dense(self.width, dtype=x.dtype, name=f"value_{m}")(x) for m, x in inputs.items()]
        first = self.param("class_token", nn.initializers.normal(0.02), (self.width,)).astype(tokens[0].dtype)
        x = jnp.stack([jnp.broadcast_to(first, tokens[0].shape), *tokens], 1)
        x, mask = tap("hidden.fusion.0", x), jnp.pad(mask, ((0, 0), (1, 0)), constant_values=True)
        config = TransformerConfig(self.width, self.layers, self.heads, 4 * self.width, eps=1e-6, dtype=x.dtype)
        layers = Transformer(config, functools.partial(Layer, pre_norm=True), name="layers")
        rows = jnp.arange(x.shape[0])  # for dropout, which a fusion does not have
        x = layers(x, mask, rows, "fusion", StepContext(0, jax.random.key(0), train=False), tap)
        return nn.LayerNorm(1e-6, dtype=x.dtype, name="norm")(x[:, 0])
