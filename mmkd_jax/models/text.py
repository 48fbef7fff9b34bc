"""Text encoders on token ids: `(batch, modality, ctx, tap) -> features` [b, d]."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float

from mmkd_jax.models.inputs import visible
from mmkd_jax.views import Batch, Context, Taps


class TextLSTM(nn.Module):
    """An LSTM over embedded tokens; padding leaves its state as it was.

    Formula: i, f, g, o = W [x, h] + b; c ← σ(f) c + σ(i) tanh(g); h ← σ(o) tanh(c)

    Attributes:
        vocabulary: number of token ids.
        width: of the embedding and of the state; the last state is the features.
    """

    vocabulary: int
    width: int = 64

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: Context, tap: Taps) -> Float[Array, "b d"]:
        ids, mask = _tokens(batch, modality)
        x = tap(f"hidden.{modality}.0", nn.Embed(self.vocabulary, self.width)(ids))
        inward = nn.Dense(4 * self.width, name="inward")(x)
        recurrent = self.param("recurrent", nn.initializers.orthogonal(), (self.width, 4 * self.width))

        def cell(carry, now):  # on lax.scan: nn.RNN does not export
            c, h = carry
            gates, here = now
            i, f, g, o = jnp.split(gates + h @ recurrent.astype(h.dtype), 4, -1)
            new_c = nn.sigmoid(f + 1) * c + nn.sigmoid(i) * jnp.tanh(g)
            new_h = nn.sigmoid(o) * jnp.tanh(new_c)
            here = here[:, None]
            c, h = jnp.where(here, new_c, c), jnp.where(here, new_h, h)
            return (c, h), h

        start = jnp.zeros_like(x[:, 0])
        times = (rearrange(inward, "b l d -> l b d"), rearrange(mask, "b l -> l b"))
        _, states = jax.lax.scan(cell, (start, start), times)
        states = tap(f"hidden.{modality}.1", rearrange(states, "l b d -> b l d"))
        return states[:, -1]


class TextTransformer(nn.Module):
    """A small pre-norm Transformer encoder; the features are the mean over tokens.

    Beside `hidden.M.i`, each block i gives `queries.M.i`, `keys.M.i` and `values.M.i` [b, l, d] with the heads side by
    side, `scores.M.i` [b, heads, q, k] before mask and softmax, and `attentions.M.i` after both.

    Attributes:
        vocabulary: number of token ids.
        width: of the tokens.
        heads: of each attention.
        layers: number of blocks.
        length: longest text.
    """

    vocabulary: int
    width: int = 64
    heads: int = 4
    layers: int = 2
    length: int = 128

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: Context, tap: Taps) -> Float[Array, "b d"]:
        ids, mask = _tokens(batch, modality)
        where = self.param("positions", nn.initializers.normal(0.02), (self.length, self.width))[: ids.shape[1]]
        x = tap(f"hidden.{modality}.0", nn.Embed(self.vocabulary, self.width)(ids) + where[None])
        for i in range(self.layers):
            x = x + _attention(nn.LayerNorm()(x), mask, self.heads, f"{modality}.{i}", tap)
            h = nn.gelu(nn.Dense(4 * self.width)(nn.LayerNorm()(x)), approximate=False)
            x = tap(f"hidden.{modality}.{i + 1}", x + nn.Dense(self.width)(h))
        inside = jnp.where(mask[..., None], nn.LayerNorm()(x), jnp.zeros((), x.dtype))
        return inside.sum(1) / jnp.maximum(mask.sum(1, keepdims=True).astype(x.dtype), 1)


def _attention(x, mask: Bool[Array, "b l"], heads: int, layer: str, tap: Taps) -> Float[Array, "b l d"]:
    """Multi-head attention to the tokens under the mask, inside a module's `__call__`."""
    d = x.shape[-1]

    def projected(name):  # tapped with the heads side by side
        vectors = nn.DenseGeneral((heads, d // heads))(x)
        return tap(f"{name}.{layer}", vectors.reshape(x.shape)).reshape(vectors.shape)

    q, k, v = projected("queries"), projected("keys"), projected("values")
    score = tap(f"scores.{layer}", jnp.einsum("bqnk,bsnk->bnqs", q, k) * (d // heads) ** -0.5)
    # finite: a row without tokens is no NaN
    score = jnp.where(mask[:, None, None, :], score, jnp.finfo(score.dtype).min)
    weights = tap(f"attentions.{layer}", jax.nn.softmax(score, -1))
    return nn.DenseGeneral(d, (-2, -1))(jnp.einsum("bnqs,bsnk->bqnk", weights, v))


def _tokens(batch, modality):
    seen = visible(batch, modality)
    return seen[f"{modality}.ids"], seen[f"{modality}.mask"]
