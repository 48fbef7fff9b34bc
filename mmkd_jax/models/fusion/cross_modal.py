"""Crossmodal attention: the tokens of each modality attend to those of each other one."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.core.model import Taps
from mmkd_jax.models.fusion._attention import AttentionLayer, dense
from mmkd_jax.models.fusion._inputs import Features, Fusion, Present
from mmkd_jax.models.fusion._tokens import tokens_of
from mmkd_jax.nn.pooling import masked_mean
from mmkd_jax.nn.positions import sinusoids
from mmkd_jax.typing import Count


class CrossModal(Fusion):
    """Crossmodal Transformers (MulT): the tokens of each modality attend to those of each other one, without alignment.

    Formula: x_m⁰ = E_m x_m + positions; for each target m and source s, y_ms = x_m⁰, then y_ms ← y_ms + MHA(LN(y_ms),
        LN(x_s⁰)), y_ms ← y_ms + MLP(LN(y_ms)) in each layer; y_m = LN(Transformer_m([LN(y_ms)]_s));
        fused = [summary of y_m]_m

    Targets and sources are in alphabetical order; x_m are the encoders' last tokens, see docs/fusions.md; the features
    are not read. Layers are pre-norm, without dropout. Positions are sines of the index of a token, not read off
    its content; the summary of a modality is over its valid tokens.

    Outputs: `attentions.fusion.M.S.i` [b, heads, l_M, l_S], the weights of layer i of target M and source S, zero for
    masked keys; `crossed.M.S` [b, l_M, width], the tokens LN(y_ms); `attentions.fusion.M.i` [b, heads, l_M, l_M], the
    weights of self-attention; `fused.M` [b, l_M, …], the tokens y_m; `summary.M` [b, …], what is concatenated.

    Attention to an absent source is 0, which leaves the target's own tokens; the summary of an absent target is 0. In a
    model of one modality, y_m = LN(Transformer_m(x_m⁰)). If no modality is present, the result is 0.

    Attributes:
        layers: number of layers of each pair of target and source.
        self_layers: number of layers of self-attention of each target.
        width: dimension of the tokens; the result has m (m − 1) times as many channels for m modalities.
        heads: number of attention heads; must divide `width`.
        summary: "mean" over the valid tokens, or the "last" valid token, as in the paper.

    Source: Tsai et al., Multimodal Transformer for Unaligned Multimodal Language Sequences, 2019,
        https://arxiv.org/abs/1906.00295
    """

    layers: Count = 2
    self_layers: Count = 1
    width: Count = 64
    heads: Count = 4
    summary: Literal["mean", "last"] = "mean"

    reads = "tokens"

    @nn.compact
    def __call__(self, features: Features, present: Present, tap: Taps) -> Float[Array, "b d"]:
        inputs, masks, summaries = {}, {}, []
        for m, (x, mask) in tokens_of(self, present, tap).items():
            inputs[m] = dense(f"embed_{m}", self.width, x) + jnp.asarray(
                sinusoids(x.shape[1], self.width)[None], x.dtype
            )
            masks[m] = mask
        for m, start in inputs.items():
            crossed = [self._crossed(m, s, start, inputs[s], masks[s], tap) for s in inputs if s != m]
            y = jnp.concatenate(crossed or [start], -1)
            for i in range(self.self_layers):
                layer = AttentionLayer(self.heads, name=f"layer_{i}_{m}")
                y = layer(y, None, masks[m], lambda w, n=f"attentions.fusion.{m}.{i}": tap(n, w))
            y = tap(f"fused.{m}", nn.LayerNorm(dtype=y.dtype, name=f"norm_{m}")(y))
            read = masked_mean if self.summary == "mean" else _last
            summaries.append(tap(f"summary.{m}", read(y, masks[m])))
        return jnp.concatenate(summaries, -1)

    @nn.nowrap
    def _crossed(
        self,
        target: str,
        source: str,
        x: Float[Array, "b q d"],
        y: Float[Array, "b s d"],
        mask: Bool[Array, "b s"],
        tap: Taps,
    ) -> Float[Array, "b q d"]:
        """Return the tokens of a target after attention to a source."""
        for i in range(self.layers):
            layer = AttentionLayer(self.heads, name=f"layer_{i}_{target}_from_{source}")
            x = layer(x, y, mask, lambda w, n=f"attentions.fusion.{target}.{source}.{i}": tap(n, w))
        norm = nn.LayerNorm(dtype=x.dtype, name=f"norm_{target}_from_{source}")
        return tap(f"crossed.{target}.{source}", norm(x))


def _last(x: Float[Array, "b l d"], mask: Bool[Array, "b l"]) -> Float[Array, "b d"]:
    """Return the last valid token; 0 if there are only masked ones."""
    place = mask.shape[1] - 1 - jnp.argmax(mask[:, ::-1], 1)
    last = jnp.take_along_axis(x, place[:, None, None], 1)[:, 0]
    return jnp.where(mask.any(1, keepdims=True), last, jnp.zeros((), x.dtype))
