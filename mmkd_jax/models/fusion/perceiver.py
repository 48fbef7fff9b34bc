"""Perceiver: learned latents read the tokens of all modalities."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.model import Taps
from mmkd_jax.models.fusion._attention import AttentionLayer, dense
from mmkd_jax.models.fusion._inputs import Features, Fusion, Present
from mmkd_jax.models.fusion._tokens import tokens_of
from mmkd_jax.nn.positions import sinusoids
from mmkd_jax.typing import Count


class Perceiver(Fusion):
    """Perceiver: a few learned latents attend to the tokens of all modalities, and to each other.

    Formula: x = [E_m x_m + e_m + positions]_m; for each layer z ← z + MHA(LN(z), LN(x)), z ← z + MLP(LN(z)),
        z ← Transformer(z); fused = mean over the latents of LN(z)

    Modalities are in alphabetical order; x_m are the encoders' last tokens, see docs/fusions.md; the features are not
    read. Layers are pre-norm, without dropout. Positions are sines of the index of a token in its modality: they hold
    for any number of tokens, and padding does not move them, as it would the paper's, which divide by the length.

    Outputs: `latents.i` [b, latents, width], the latents before layer i, i = 0 … layers, 0 being variables;
    `attentions.fusion.inputs.i` [b, heads, latents, tokens], the weights of layer i over all tokens, zero for masked
    ones; `attentions.fusion.latents.i` [b, heads, latents, latents].

    Tokens of an absent modality are masked. If none is present, MHA over the tokens is 0, and the result is that of the
    latents alone, the same for all such rows.

    Attributes:
        latents: number of latents.
        layers: number of layers, each of cross-attention and self-attention.
        width: dimension of tokens, latents and result.
        heads: number of attention heads; must divide `width`.
        share: all layers have the same variables. (In the paper, the first cross-attention has its own.)

    Source: Jaegle et al., Perceiver, 2021, https://arxiv.org/abs/2103.03206
    """

    latents: Count = 8
    layers: Count = 2
    width: Count = 64
    heads: Count = 4
    share: bool = True

    reads = "tokens"

    @nn.compact
    def __call__(self, features: Features, present: Present, tap: Taps) -> Float[Array, "b d"]:
        every, masks = [], []
        for m, (x, mask) in tokens_of(self, present, tap).items():
            kind = self.param(f"modality_{m}", nn.initializers.normal(0.02), (self.width,)).astype(x.dtype)
            places = jnp.asarray(sinusoids(x.shape[1], self.width)[None], x.dtype) + kind[None, None]
            every.append(dense(f"embed_{m}", self.width, x, bias=False) + places)
            masks.append(mask)
        inputs, mask = jnp.concatenate(every, 1), jnp.concatenate(masks, 1)
        z = self.param("latents", nn.initializers.normal(0.02), (self.latents, self.width)).astype(inputs.dtype)
        z = tap("latents.0", jnp.broadcast_to(z, (inputs.shape[0], *z.shape)))
        own = range(1 if self.share else self.layers)
        cross = [AttentionLayer(self.heads, name=f"cross_{i}") for i in own]
        among = [AttentionLayer(self.heads, name=f"layer_{i}") for i in own]
        for i in range(self.layers):
            k = 0 if self.share else i
            z = cross[k](z, inputs, mask, lambda w, n=f"attentions.fusion.inputs.{i}": tap(n, w))
            z = among[k](z, None, None, lambda w, n=f"attentions.fusion.latents.{i}": tap(n, w))
            z = tap(f"latents.{i + 1}", z)
        return nn.LayerNorm(dtype=z.dtype, name="norm")(z).mean(1, dtype=jnp.float32).astype(z.dtype)
