"""Text encoders on token ids: `(batch, modality, ctx, tap) -> features` [b, d]."""

import flax.linen as nn
from jaxtyping import Array, Float

from mmkd_jax.models.blocks import transformer_blocks
from mmkd_jax.models.inputs import visible
from mmkd_jax.models.pooling import mean_where
from mmkd_jax.models.recurrent import lstm
from mmkd_jax.views import Batch, Context, Taps


class TextBag(nn.Module):
    """The mean of the tokens' embeddings, whatever their order; zeros for a text without tokens.

    Attributes:
        vocabulary: number of token ids.
        width: of the embeddings.

    Source: Joulin et al., Bag of Tricks for Efficient Text Classification, 2017, https://aclanthology.org/E17-2068
    """

    vocabulary: int
    width: int = 64

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: Context, tap: Taps) -> Float[Array, "b d"]:
        ids, mask = _tokens(batch, modality)
        return mean_where(tap(f"hidden.{modality}.0", nn.Embed(self.vocabulary, self.width)(ids)), mask)


class TextLSTM(nn.Module):
    """An LSTM over embedded tokens; padding leaves its state as it was.

    Formula: that of `models.recurrent.lstm`, with inward = W x + b and forget = 1

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
        states = lstm(inward, recurrent.astype(x.dtype), mask, forget=1.0)
        states = tap(f"hidden.{modality}.1", states)
        return states[:, -1]


class TextTransformer(nn.Module):
    """A small pre-norm Transformer encoder; the features are the mean over tokens.

    What each block gives besides `hidden.M.i` stands in `models.blocks`.

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
        x = transformer_blocks(x, mask, self.layers, self.heads, modality, tap)
        return mean_where(x, mask)


def _tokens(batch, modality):
    seen = visible(batch, modality)
    return seen[f"{modality}.ids"], seen[f"{modality}.mask"]
