"""Attention bottlenecks: modalities exchange through a few tokens."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.model import Taps
from mmkd_jax.errors import UserError
from mmkd_jax.models.fusion._attention import AttentionLayer, dense
from mmkd_jax.models.fusion._inputs import Features, Fusion, Present, zero_absent
from mmkd_jax.models.fusion._tokens import tokens_of
from mmkd_jax.nn.pooling import masked_mean
from mmkd_jax.typing import Count


class Bottleneck(Fusion):
    """Attention bottlenecks (MBT): each modality attends to its own tokens and to a few shared ones.

    Formula: for each layer and modality [x_m, z_m] ← Transformer_m([x_m, z]); z ← mean_{m present} z_m;
        fused = mean_{m present} LN_m(x_m[first])

    The first token of a modality is its features, projected: the class token, if the encoder has one. The others are
    the encoder's last tokens, projected, see docs/fusions.md. Layers are pre-norm, without dropout; each modality has
    its own. Positions are those that the encoders gave to their tokens.

    Outputs: `bottleneck.i` [b, tokens, width], the shared tokens z that layer i reads, i = 0 … layers − 1; those of
    layer 0 are variables. `fused.M.i` [b, 1 + l, width], the tokens of modality M after layer i − 1, the first one in
    front; `attentions.fusion.M.i` [b, heads, 1 + l + tokens, 1 + l + tokens], the weights of layer i, zero for masked
    keys.

    An absent modality is in neither mean. With one present, the shared tokens are that modality's own; if none is,
    the result is 0.

    Attributes:
        layers: number of layers, 2 or more: what a layer writes to the shared tokens is read by the next one.
        tokens: number of shared tokens.
        width: dimension of the tokens and of the result.
        heads: number of attention heads; must divide `width`.

    Source: Nagrani et al., Attention Bottlenecks for Multimodal Fusion, 2021, https://arxiv.org/abs/2107.00135
    """

    layers: Count = 2
    tokens: Count = 4
    width: Count = 64
    heads: Count = 4

    reads = "tokens"

    def __post_init__(self):
        super().__post_init__()
        if self.layers < 2:
            what = "expected 2 or more: what a layer writes to the shared tokens is read by the next one"
            raise UserError(f"Bottleneck: layers is {self.layers}; {what}")

    @nn.compact
    def __call__(self, features: Features, present: Present, tap: Taps) -> Float[Array, "b d"]:
        streams, masks, here = {}, {}, zero_absent(features, present)
        for m, (x, mask) in tokens_of(self, present, tap).items():
            first = dense(f"class_{m}", self.width, here[m].astype(x.dtype)[:, None])
            streams[m] = jnp.concatenate([first, dense(f"embed_{m}", self.width, x)], 1)
            masks[m] = jnp.concatenate([present[m][:, None], mask], 1)
        rows = jnp.stack([present[m] for m in streams], 1)
        shared = self.param("bottleneck", nn.initializers.normal(0.02), (self.tokens, self.width))
        one = next(iter(streams.values()))
        shared = jnp.broadcast_to(shared.astype(one.dtype), (one.shape[0], self.tokens, self.width))
        for i in range(self.layers):
            shared, written = tap(f"bottleneck.{i}", shared), []
            for m, x in streams.items():
                valid = jnp.pad(masks[m], ((0, 0), (0, self.tokens)), constant_values=True)
                layer = AttentionLayer(self.heads, name=f"layer_{i}_{m}")
                name = f"attentions.fusion.{m}.{i}"
                x = layer(jnp.concatenate([x, shared], 1), None, valid, lambda w, name=name: tap(name, w))
                streams[m] = tap(f"fused.{m}.{i + 1}", x[:, : -self.tokens])
                written.append(x[:, -self.tokens :].reshape(x.shape[0], -1))
            shared = masked_mean(jnp.stack(written, 1), rows).reshape(shared.shape)
        ends = [nn.LayerNorm(dtype=x.dtype, name=f"norm_{m}")(x[:, 0]) for m, x in streams.items()]
        return masked_mean(jnp.stack(ends, 1), rows)
