"""BERT and its kin, one text encoder: `(batch, modality, ctx, tap) -> features` [b, d].

RoBERTa counts positions from behind the padding's id, DistilBERT has neither token types nor pooler; MiniLM is a small
BERT, and XLM-R a RoBERTa with another vocabulary.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.errors import UserError
from mmkd_jax.models.dropout import Dropout
from mmkd_jax.models.inputs import visible
from mmkd_jax.models.pooling import mean_where
from mmkd_jax.models.transformer import Transformer, switches
from mmkd_jax.views import Batch, Context, Taps


class Bert(nn.Module):
    """A post-norm Transformer encoder on embedded tokens.

    Formula: x₀ = LN(E[token] + P[position] + T[type]); the layers of `models.transformer`

    Outputs besides those of the layers: `hidden.M.0`, the embedded tokens; `pooled.M` = tanh(W x[first]) with a pooler.

    Attributes:
        vocabulary: number of token ids.
        width: of the tokens.
        layers: how many.
        heads: of each attention.
        inner: width between a layer's two dense layers.
        length: rows of the table of positions.
        types: of tokens, as `text.types` has them, else all 0; 0 is no such table.
        padding: None counts positions from 0; an id of padding counts from the next number, over the tokens that are
            there (RoBERTa).
        pooler: whether there is one.
        pool: what the features are: "mean" of the tokens that are there, "first" token, or "pooler".
        activation: a name of `models.activations`.
        eps: of the LayerNorms.
        dropout: rate on embedded tokens and on what is added to a residual connection, in training.
        attention_dropout: rate on the attention's weights, in training.
        dtype: of the computation, such as jnp.bfloat16; the parameters' own, if None.
        remat: compute a layer's intermediates again for the backward pass.
        scan: compile one layer for all.

    Source: Devlin et al., BERT, 2019, https://arxiv.org/abs/1810.04805; Liu et al., RoBERTa, 2019,
        https://arxiv.org/abs/1907.11692; Sanh et al., DistilBERT, 2019, https://arxiv.org/abs/1910.01108; Wang et al.,
        MiniLM, 2020, https://arxiv.org/abs/2002.10957; Conneau et al., XLM-R, 2020, https://arxiv.org/abs/1911.02116
    """

    vocabulary: int
    width: int = 384
    layers: int = 6
    heads: int = 12
    inner: int = 1536
    length: int = 512
    types: int = 2
    padding: int | None = None
    pooler: bool = False
    pool: str = "mean"
    activation: str = "gelu"
    eps: float = 1e-12
    dropout: float = 0.0
    attention_dropout: float = 0.0
    dtype: Any = None
    remat: bool = False
    scan: bool = False

    @nn.nowrap
    def sample(self, modality: str) -> dict[str, Array]:
        """The smallest batch, for shapes."""
        return {f"{modality}.ids": jnp.zeros((1, 1), jnp.int32), f"{modality}.mask": jnp.ones((1, 1), bool)}

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: Context, tap: Taps) -> Float[Array, "b d"]:
        if self.pool not in ("mean", "first", "pooler") or (self.pool == "pooler" and not self.pooler):
            raise UserError(f"{modality}: pool is {self.pool!r}; expected 'mean', 'first' or, with a pooler, 'pooler'")
        seen, rows = visible(batch, modality), batch["example_id"]
        ids, mask = seen[f"{modality}.ids"], seen[f"{modality}.mask"]
        first = 0 if self.padding is None else self.padding + 1
        if ids.shape[1] + first > self.length:
            raise UserError(
                f"{modality}: texts of {ids.shape[1]} tokens, but the table of positions ends at {self.length - first}"
            )

        def table(name, size, which):
            return nn.Embed(size, self.width, dtype=self.dtype, name=name)(which)

        places = jnp.arange(ids.shape[1], dtype=jnp.int32)[None]
        if self.padding is not None:
            places = self.padding + jnp.cumsum(mask, 1, dtype=jnp.int32) * mask
        x = table("tokens", self.vocabulary, ids) + table("positions", self.length, places)
        if self.types:
            x = x + table("types", self.types, seen.get(f"{modality}.types", jnp.zeros(ids.shape, jnp.int32)))
        x = nn.LayerNorm(self.eps, dtype=self.dtype, name="norm")(x)
        x = tap(f"hidden.{modality}.0", Dropout(self.dropout, name="dropped")(x, ctx, rows))
        x = Transformer(**switches(self), name="transformer")(x, mask, rows, modality, ctx, tap)
        pooled = None
        if self.pooler:
            dense = nn.Dense(self.width, dtype=self.dtype, name="pooler")
            pooled = tap(f"pooled.{modality}", jnp.tanh(dense(x[:, 0])))
        if self.pool == "mean":
            return mean_where(x, mask)
        return x[:, 0] if pooled is None or self.pool == "first" else pooled
