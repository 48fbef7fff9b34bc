"""Text encoders on token ids: `(batch, modality, ctx, tap) -> features` [b, d]; `tokens_mask.M` is their mask."""

import flax.linen as nn
from jaxtyping import Array, Float

from mmkd_jax.core.model import Batch, StepContext, Taps
from mmkd_jax.models._inputs import masked_input
from mmkd_jax.nn.blocks import transformer_blocks
from mmkd_jax.nn.pooling import masked_mean
from mmkd_jax.nn.recurrent import lstm


class TextBag(nn.Module):
    """Bag-of-words encoder: the mean of the token embeddings; zeros for a text without tokens.

    Attributes:
        vocabulary: number of token ids.
        width: embedding dimension.

    Source: Joulin et al., Bag of Tricks for Efficient Text Classification, 2017, https://aclanthology.org/E17-2068
    """

    vocabulary: int
    width: int = 64

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: StepContext, tap: Taps) -> Float[Array, "b d"]:
        ids, mask = _tokens(batch, modality, tap)
        return masked_mean(tap(f"hidden.{modality}.0", nn.Embed(self.vocabulary, self.width)(ids)), mask)


class TextLSTM(nn.Module):
    """LSTM over embedded tokens; padding leaves the state unchanged.

    Formula: see `nn.recurrent.lstm`, with inward = W x + b and forget = 1

    Attributes:
        vocabulary: number of token ids.
        width: dimension of the embeddings and of the state; the last state is the features.
    """

    vocabulary: int
    width: int = 64

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: StepContext, tap: Taps) -> Float[Array, "b d"]:
        ids, mask = _tokens(batch, modality, tap)
        x = tap(f"hidden.{modality}.0", nn.Embed(self.vocabulary, self.width)(ids))
        inward = nn.Dense(4 * self.width, name="inward")(x)
        recurrent = self.param("recurrent", nn.initializers.orthogonal(), (self.width, 4 * self.width))
        states = lstm(inward, recurrent.astype(x.dtype), mask, forget=1.0)
        states = tap(f"hidden.{modality}.1", states)
        return states[:, -1]


class TextTransformer(nn.Module):
    """Small pre-norm Transformer encoder with mean pooling over tokens.

    For the outputs of each block other than `hidden.M.i`, see `nn.blocks`.

    Attributes:
        vocabulary: number of token ids.
        embed_dim: dimension of the tokens.
        num_heads: number of attention heads.
        num_layers: number of blocks.
        length: maximum number of tokens.
    """

    vocabulary: int
    embed_dim: int = 64
    num_heads: int = 4
    num_layers: int = 2
    length: int = 128

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: StepContext, tap: Taps) -> Float[Array, "b d"]:
        ids, mask = _tokens(batch, modality, tap)
        positions = self.param("positions", nn.initializers.normal(0.02), (self.length, self.embed_dim))[: ids.shape[1]]
        x = tap(f"hidden.{modality}.0", nn.Embed(self.vocabulary, self.embed_dim)(ids) + positions[None])
        x = transformer_blocks(x, mask, self.num_layers, self.num_heads, modality, tap)
        return masked_mean(x, mask)


def _tokens(batch, modality, tap):
    seen = masked_input(batch, modality)
    return seen[f"{modality}.ids"], tap(f"tokens_mask.{modality}", seen[f"{modality}.mask"])
