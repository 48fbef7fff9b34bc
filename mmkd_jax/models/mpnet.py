"""MPNet text encoder: `(batch, modality, ctx, tap) -> features` [b, d]."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.model import Batch, StepContext, Taps
from mmkd_jax.models._text import positions_after, text_features, token_inputs, token_sample
from mmkd_jax.nn.dropout import Dropout
from mmkd_jax.nn.relative import relative_buckets
from mmkd_jax.nn.transformer import Transformer, TransformerConfig

BUCKETS, REACH = 32, 128
"""Buckets of relative positions, and the distance from which on all have the last bucket."""


class MPNet(nn.Module):
    """MPNet: a post-norm Transformer encoder with a bias of the scores by relative position, shared by all layers.

    Formula: x₀ = LN(E[token] + P[position]); the layers of `nn.transformer`, with R[bucket(s − q)] added to the scores
        of each head

    Outputs, in addition to those of the layers: `hidden.M.0`, the embedded tokens; `pooled.M` = tanh(W x[first]), with
    a pooler; `tokens_mask.M`, their mask. `scores.M.i` include the bias.

    Attributes:
        vocabulary: number of token ids.
        config: sizes and options of the layers; the default is MPNet base's.
        length: number of position embeddings.
        padding: padding id; positions start at the next number and count unmasked tokens only.
        pooler: add a pooler.
        pool: features: "mean" over the unmasked tokens, the "first" token, or the output of the "pooler".

    Source: Song et al., MPNet, 2020, https://arxiv.org/abs/2004.09297
    """

    vocabulary: int
    config: TransformerConfig = TransformerConfig(embed_dim=768, num_layers=12, num_heads=12, mlp_dim=3072)
    length: int = 514
    padding: int = 1
    pooler: bool = False
    pool: str = "mean"

    @nn.nowrap
    def sample(self, modality: str) -> dict[str, Array]:
        """Return the smallest valid batch, for shape inference."""
        return token_sample(modality)

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: StepContext, tap: Taps) -> Float[Array, "b d"]:
        config, rows = self.config, batch["example_id"]
        ids, mask, _ = token_inputs(batch, modality, self.length - self.padding - 1, tap)

        def embed(name, size, width, ids):
            return nn.Embed(size, width, dtype=config.dtype, name=name)(ids)

        x = embed("tokens", self.vocabulary, config.embed_dim, ids)
        x = x + embed("positions", self.length, config.embed_dim, positions_after(self.padding, mask))
        x = nn.LayerNorm(config.eps, dtype=config.dtype, name="norm")(x)
        x = tap(f"hidden.{modality}.0", Dropout(config.dropout, name="dropped")(x, ctx, rows))
        buckets = jnp.asarray(relative_buckets(ids.shape[1], BUCKETS, REACH))
        bias = embed("relative", BUCKETS, config.num_heads, buckets).transpose(2, 0, 1)[None]
        x = Transformer(config, name="transformer")(x, mask, rows, modality, ctx, tap, lambda i: (bias,))
        return text_features(x, mask, modality, tap, config, self.pool, "tanh" if self.pooler else None)
