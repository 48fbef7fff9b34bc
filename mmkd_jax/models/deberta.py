"""DeBERTa v2 and v3 text encoder: `(batch, modality, ctx, tap) -> features` [b, d]."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mmkd_jax.core.model import Batch, StepContext, Taps
from mmkd_jax.models._text import text_features, token_inputs, token_sample
from mmkd_jax.nn.activations import activation
from mmkd_jax.nn.conv import Conv
from mmkd_jax.nn.dropout import Dropout
from mmkd_jax.nn.relative import signed_buckets
from mmkd_jax.nn.transformer import PROJECTIONS, Layer, Transformer, TransformerConfig, attend
from mmkd_jax.typing import Shape


class Deberta(nn.Module):
    """DeBERTa: a post-norm Transformer encoder whose scores add content and relative position.

    Formula: x₀ = LN(E[token]); the layers of `nn.transformer`, with the scores of `DisentangledLayer`; with `kernel`,
        x₁ ← LN(x₁ + φ(K ∗ x₀))

    Outputs, in addition to those of the layers: `hidden.M.0`, the embedded tokens; zero outside the mask, which is
    `tokens_mask.M`. `scores.M.i` include all of their terms.

    Attributes:
        vocabulary: number of token ids.
        config: sizes and options of the layers; the default is that of DeBERTa v3 base.
        length: number of positions.
        types: number of token types, read from `text.types` (all 0 if the batch lacks it); 0 disables token types.
        positions: add position embeddings to the tokens, too.
        buckets: number of logarithmic buckets of relative positions on each side; 0 has one for each position.
        reach: distance that has the last bucket.
        terms: terms of the scores in addition to that of content to content: "c2p", "p2c".
        shared_keys: relative positions are projected by the queries' and keys' own layers.
        normed: apply a LayerNorm to the embeddings of relative positions.
        kernel: kernel size of the convolution after the first layer; 0 for none.
        conv_activation: φ, a name in `nn.activations`.
        pool: features: "mean" over the unmasked tokens, or the "first" token.

    Source: He et al., DeBERTa, 2020, https://arxiv.org/abs/2006.03654; He et al., DeBERTaV3, 2021,
        https://arxiv.org/abs/2111.09543
    """

    vocabulary: int
    config: TransformerConfig = TransformerConfig(embed_dim=768, num_layers=12, num_heads=12, mlp_dim=3072, eps=1e-7)
    length: int = 512
    types: int = 0
    positions: bool = False
    buckets: int = 256
    reach: int = 512
    terms: tuple[str, ...] = ("c2p", "p2c")
    shared_keys: bool = True
    normed: bool = True
    kernel: int = 0
    conv_activation: str = "tanh"
    pool: str = "mean"

    @nn.nowrap
    def sample(self, modality: str) -> dict[str, Array]:
        """Return the smallest valid batch, for shape inference."""
        return token_sample(modality)

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: StepContext, tap: Taps) -> Float[Array, "b d"]:
        config, rows = self.config, batch["example_id"]
        ids, mask, types = token_inputs(batch, modality, self.length, tap)

        def embed(name, size, ids):
            return nn.Embed(size, config.embed_dim, dtype=config.dtype, name=name)(ids)

        def norm(name, x):
            return nn.LayerNorm(config.eps, dtype=config.dtype, name=name)(x)

        x, every = embed("tokens", self.vocabulary, ids), jnp.arange(ids.shape[1], dtype=jnp.int32)[None]
        x = x + embed("positions", self.length, every) if self.positions else x
        x = x + embed("types", self.types, types) if self.types else x
        x = _masked(norm("norm", x), mask)
        x = tap(f"hidden.{modality}.0", Dropout(config.dropout, name="dropped")(x, ctx, rows))
        span = self.buckets or self.reach
        relative = embed("relative", 2 * span, jnp.arange(2 * span, dtype=jnp.int32))
        relative = norm("norm_relative", relative) if self.normed else relative
        buckets = signed_buckets(ids.shape[1], self.buckets, self.reach) + span
        index = jnp.asarray(np.clip(buckets, 0, 2 * span - 1))
        layer = partial(DisentangledLayer, terms=self.terms, shared_keys=self.shared_keys)
        first = partial(ConvolvedLayer, kernel=self.kernel, conv_activation=self.conv_activation, **layer.keywords)
        stack = Transformer(config, layer, first if self.kernel else None, name="transformer")
        x = stack(x, mask, rows, modality, ctx, tap, lambda i: ((relative, index),))
        return text_features(x, mask, modality, tap, config, self.pool)


def _masked(x, mask):
    return x if mask is None else jnp.where(mask[..., None], x, jnp.zeros((), x.dtype))


class DisentangledLayer(Layer):
    """Transformer layer whose scores have terms for content and for relative positions.

    Formula: score = (q·k + q·K[δ(q, s)] + k·Q[δ(q, s)]) / √(d · number of terms), with projections K and Q of the
        embeddings of relative positions and their buckets δ

    Variables, in addition to those of `Layer`: `position_key` and `position_query`, unless `shared_keys`.

    Attributes:
        terms: "c2p" for q·K, "p2c" for k·Q.
        shared_keys: K and Q are projected by `key` and `query`.
    """

    terms: tuple[str, ...] = ("c2p", "p2c")
    shared_keys: bool = True

    @nn.nowrap
    def attention(
        self,
        x: Float[Array, "*b d"],
        shape: Shape,
        mask: Bool[Array, "..."] | None,
        rows: Int[Array | np.ndarray, " b"],
        ctx: StepContext,
        tap: Taps,
        scope: str = "",
        positions: Any = None,
    ) -> Float[Array, "b ... d"]:
        """Apply self-attention, as a residual branch.

        Args:
            x: tokens, of the given shape or with the leading axes as one.
            shape: shape of the result, [b, l, d].
            mask: which keys each query attends to, broadcast to the scores; None is all.
            rows: `example_id`, by which dropout masks are keyed.
            ctx: step context.
            tap: Taps of the layer.
            scope: prefix of the names of variables and intermediates.
            positions: embeddings of relative positions [2 r, d], and their row for each query and key [q, s].
        """
        relative, index = positions
        d, n = shape[-1], self.config.num_heads
        names = [*PROJECTIONS, *([] if self.shared_keys else [_OWN[t] for t in self.terms])]
        dense = {name: nn.Dense(d, dtype=self.config.dtype, name=scope + name) for name in names}

        def heads(x):
            return x.reshape(*x.shape[:-1], n, d // n)

        q, k, v = (heads(tap(scope + its, dense[name](x).reshape(shape))) for name, its in PROJECTIONS.items())
        scale = (1 + len(self.terms)) ** -0.5
        bias = jnp.zeros((), q.dtype)
        for term in self.terms:
            by = _SHARED[term] if self.shared_keys else _OWN[term]
            table, content = heads(dense[by](relative)), {"c2p": q, "p2c": k}[term]
            # all buckets of each query or key, of which the other one's is taken
            every = jnp.einsum("btnk,rnk->bntr", content, table) * (scale * q.shape[-1] ** -0.5)
            rows_of = index if term == "c2p" else index.T
            found = jnp.take_along_axis(every, rows_of[None, None], -1)
            bias = bias + (found if term == "c2p" else found.swapaxes(-1, -2))

        def drop(weights):
            return Dropout(self.config.attention_dropout, name=f"dropout_{scope}weights")(weights, ctx, rows)

        mixed = attend(q * scale, k, v, mask, lambda name, y: tap(scope + name, y), drop, bias).reshape(-1, d)
        return self.branch(f"{scope}attention", self.dense(f"{scope}out", d, mixed), shape, rows, ctx)


_OWN = {"c2p": "position_key", "p2c": "position_query"}
_SHARED = {"c2p": "key", "p2c": "query"}


class ConvolvedLayer(DisentangledLayer):
    """First layer of DeBERTa v2 xlarge: its output is joined by a convolution of its input.

    Formula: y ← LN(y + φ(K ∗ x)), with the layer's input x and output y; zero outside the mask

    Variables, in addition to those of `DisentangledLayer`: `conv`, `norm_conv`.

    Attributes:
        kernel: kernel size, odd.
        conv_activation: φ, a name in `nn.activations`.
    """

    kernel: int = 3
    conv_activation: str = "tanh"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        mask: Bool[Array, "b l"] | None,
        rows: Int[Array | np.ndarray, " b"],
        ctx: StepContext,
        patch: dict[str, Any],
        positions: Any = None,
    ) -> tuple[Float[Array, "b l d"], dict[str, Any]]:
        """Return the tokens, and the layer's intermediates by name, as `Layer` does."""
        inner = {name: value for name, value in patch.items() if name != "hidden"}
        y, outputs = super().__call__(x, mask, rows, ctx, inner, positions)
        z: jax.Array = Conv(x.shape[-1], (self.kernel,), name="conv")(x)
        z = activation(self.conv_activation)(
            Dropout(self.config.dropout, name="dropout_conv")(_masked(z, mask), ctx, rows)
        )
        y = _masked(self.norm("norm_conv", y + z), mask)
        y = Taps(patch)("hidden", y)
        return y, outputs | {"hidden": y}
