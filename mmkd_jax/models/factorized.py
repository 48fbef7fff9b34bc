"""ELECTRA and ALBERT text encoders, BERT with narrow embeddings: `(batch, modality, ctx, tap) -> features` [b, d]."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.model import Batch, StepContext, Taps
from mmkd_jax.models._text import text_features, token_inputs, token_sample
from mmkd_jax.nn.dropout import Dropout
from mmkd_jax.nn.transformer import Transformer, TransformerConfig


class FactorizedBert(nn.Module):
    """ELECTRA / ALBERT: BERT whose embedding tables are narrower than its layers, or whose layers share their weights.

    Formula: x₀ = W LN(E[token] + P[position] + T[type]); the layers of `nn.transformer`

    Outputs, in addition to those of the layers: `hidden.M.0`, the projected tokens; `pooled.M` = tanh(V x[first]), with
    a pooler; `tokens_mask.M`, the mask of the tokens.

    Attributes:
        vocabulary: number of token ids.
        config: sizes and options of the layers; the default is ELECTRA small's.
        embedding: dimension of the embedding tables.
        projected: apply W; needed unless `embedding` is the dimension of the tokens.
        shared: all layers have the same weights, `layer_0` (ALBERT).
        length: number of position embeddings.
        types: number of token types, read from `text.types` (all 0 if the batch lacks it); 0 disables token types.
        pooler: add a pooler.
        pool: features: "mean" over the unmasked tokens, the "first" token, or the output of the "pooler".

    Source: Clark et al., ELECTRA, 2020, https://arxiv.org/abs/2003.10555; Lan et al., ALBERT, 2019,
        https://arxiv.org/abs/1909.11942
    """

    vocabulary: int
    config: TransformerConfig = TransformerConfig(embed_dim=256, num_layers=12, num_heads=4, mlp_dim=1024)
    embedding: int = 128
    projected: bool = True
    shared: bool = False
    length: int = 512
    types: int = 2
    pooler: bool = False
    pool: str = "mean"

    @nn.nowrap
    def sample(self, modality: str) -> dict[str, Array]:
        """Return the smallest valid batch, for shape inference."""
        return token_sample(modality)

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: StepContext, tap: Taps) -> Float[Array, "b d"]:
        config, rows = self.config, batch["example_id"]
        ids, mask, types = token_inputs(batch, modality, self.length, tap)
        x = NarrowEmbeddings(self.vocabulary, self.length, self.types, self.embedding, config, name="embedded")(
            ids, types
        )
        x = Dropout(config.dropout, name="dropped")(x, ctx, rows)
        x = nn.Dense(config.embed_dim, dtype=config.dtype, name="projected")(x) if self.projected else x
        x = tap(f"hidden.{modality}.0", x)
        x = Transformer(config, shared=self.shared, name="transformer")(x, mask, rows, modality, ctx, tap)
        return text_features(x, mask, modality, tap, config, self.pool, "tanh" if self.pooler else None)


class NarrowEmbeddings(nn.Module):
    """Sum of token, position and type embeddings, with a LayerNorm.

    Attributes:
        vocabulary: number of token ids.
        length: number of positions.
        types: number of token types.
        width: dimension of the tables.
        config: options.
    """

    vocabulary: int
    length: int
    types: int
    width: int
    config: TransformerConfig

    @nn.compact
    def __call__(self, ids: Array, types: Array) -> Float[Array, "b l e"]:
        def embed(name, size, ids):
            return nn.Embed(size, self.width, dtype=self.config.dtype, name=name)(ids)

        places = jnp.arange(ids.shape[1], dtype=jnp.int32)[None]
        x = embed("tokens", self.vocabulary, ids) + embed("positions", self.length, places)
        x = x + embed("types", self.types, types) if self.types else x
        return nn.LayerNorm(self.config.eps, dtype=self.config.dtype, name="norm")(x)
