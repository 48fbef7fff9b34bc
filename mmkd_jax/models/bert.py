"""BERT family of text encoders: `(batch, modality, ctx, tap) -> features` [b, d].

RoBERTa starts its positions after the padding id; DistilBERT has neither token types nor a pooler; MiniLM is a small
BERT; XLM-R and data2vec are RoBERTa with other weights.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.model import Batch, StepContext, Taps
from mmkd_jax.models._text import positions_after, text_features, token_inputs, token_sample, with_prompts
from mmkd_jax.nn.dropout import Dropout
from mmkd_jax.nn.transformer import Transformer, TransformerConfig


class Bert(nn.Module):
    """BERT: a post-norm Transformer encoder on embedded tokens.

    Formula: x₀ = LN(E[token] + P[position] + T[type]); the layers of `nn.transformer`

    Outputs, in addition to those of the layers: `hidden.M.0`, the embedded tokens; `pooled.M` = tanh(W x[first]),
    with a pooler; `tokens_mask.M`, the mask of the text's tokens, with prompts: among all tokens.

    Prompts are learned vectors at the first positions, before the text. Their tokens are the last ones of each output,
    so that the first one is that of the text; features are those of the text alone.

    Attributes:
        vocabulary: number of token ids.
        config: sizes and options of the layers; the default is MiniLM's.
        length: number of position embeddings.
        types: number of token types, read from `text.types` (all 0 if the batch lacks it); 0 disables token types.
        padding: padding id; positions then start at the next number and count unmasked tokens only (RoBERTa). None
            counts positions from 0.
        pooler: add a pooler.
        pool: features: "mean" over the unmasked tokens, the "first" token, or the output of the "pooler".
        prompts: number of prompts (prompt tuning).

    Source: Devlin et al., BERT, 2019, https://arxiv.org/abs/1810.04805; Liu et al., RoBERTa, 2019,
        https://arxiv.org/abs/1907.11692; Sanh et al., DistilBERT, 2019, https://arxiv.org/abs/1910.01108; Wang et al.,
        MiniLM, 2020, https://arxiv.org/abs/2002.10957; Conneau et al., XLM-R, 2020, https://arxiv.org/abs/1911.02116;
        Baevski et al., data2vec, 2022, https://arxiv.org/abs/2202.03555; Lester et al., The Power of Scale for
        Parameter-Efficient Prompt Tuning, 2021, https://arxiv.org/abs/2104.08691
    """

    vocabulary: int
    config: TransformerConfig = TransformerConfig(embed_dim=384, num_layers=6, num_heads=12, mlp_dim=1536)
    length: int = 512
    types: int = 2
    padding: int | None = None
    pooler: bool = False
    pool: str = "mean"
    prompts: int = 0

    @nn.nowrap
    def sample(self, modality: str) -> dict[str, Array]:
        """Return the smallest valid batch, for shape inference."""
        return token_sample(modality)

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: StepContext, tap: Taps) -> Float[Array, "b d"]:
        config, rows = self.config, batch["example_id"]
        first = 0 if self.padding is None else self.padding + 1
        ids, mask, types = token_inputs(batch, modality, self.length - first, tap, self.prompts)
        length = ids.shape[1]

        def embed(name, size, ids):
            return nn.Embed(size, config.embed_dim, dtype=config.dtype, name=name)(ids)

        x = embed("tokens", self.vocabulary, ids)
        if self.prompts:
            prompts = self.param("prompts", nn.initializers.normal(0.02), (self.prompts, config.embed_dim))
            x, mask, types = with_prompts(prompts, x, mask, types)
        positions = jnp.arange(x.shape[1], dtype=jnp.int32)[None]
        if self.padding is not None:
            positions = positions_after(self.padding, mask)
        x = x + embed("positions", self.length, positions)
        if self.types:
            x = x + embed("types", self.types, types)
        x = nn.LayerNorm(config.eps, dtype=config.dtype, name="norm")(x)
        if self.prompts:  # behind the text, whose first token stays the first
            x, mask = jnp.roll(x, -self.prompts, 1), jnp.roll(mask, -self.prompts, 1)
            tap(f"tokens_mask.{modality}", mask & (jnp.arange(x.shape[1]) < length)[None])
        x = tap(f"hidden.{modality}.0", Dropout(config.dropout, name="dropped")(x, ctx, rows))
        x = Transformer(config, name="transformer")(x, mask, rows, modality, ctx, tap)
        x, mask = x[:, :length], mask[:, :length]
        return text_features(x, mask, modality, tap, config, self.pool, "tanh" if self.pooler else None)
