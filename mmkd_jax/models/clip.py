"""CLIP and SigLIP: two towers whose embeddings meet in one space."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.errors import UserError
from mmkd_jax.models.inputs import visible
from mmkd_jax.models.transformer import Transformer, switches
from mmkd_jax.views import Batch, Context, Outputs, Taps


class ClipText(nn.Module):
    """The text tower: a pre-norm Transformer; `(batch, modality, ctx, tap) -> features` [b, d].

    Formula: x₀ = E[token] + P[position]; the layers of `models.transformer`; LN; the token at the end

    Outputs besides those of the layers: `hidden.M.0`, the embedded tokens; `tokens.M`, the last ones after the
    LayerNorm; `pooled.M`, the features.

    Attributes:
        vocabulary: number of token ids.
        width: of the tokens.
        layers: how many.
        heads: of each attention.
        inner: width between a layer's two dense layers.
        length: rows of the table of positions.
        causal: whether a token sees those before it only (CLIP).
        end: id of the token that ends a text, whose first place is read; 2 is the largest id instead, as old
            configurations of CLIP mean it; None is the last place, which padding may hold (SigLIP).
        head: width of a dense layer on what is read; None is no such layer.
        activation: a name of `models.activations`.
        eps: of the LayerNorms.
        attention_dropout: rate on the attention's weights, in training.
        dtype: of the computation, such as jnp.bfloat16; the parameters' own, if None.
        remat: compute a layer's intermediates again for the backward pass.
        scan: compile one layer for all.

    Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, 2021,
        https://arxiv.org/abs/2103.00020
    """

    vocabulary: int = 49408
    width: int = 512
    layers: int = 12
    heads: int = 8
    inner: int = 2048
    length: int = 77
    causal: bool = True
    end: int | None = 49407
    head: int | None = None
    activation: str = "quick_gelu"
    eps: float = 1e-5
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
        seen, rows = visible(batch, modality), batch["example_id"]
        ids, mask = seen[f"{modality}.ids"], seen[f"{modality}.mask"]
        if ids.shape[1] > self.length:
            raise UserError(
                f"{modality}: texts of {ids.shape[1]} tokens, but the table of positions ends at {self.length}"
            )
        x = nn.Embed(self.vocabulary, self.width, dtype=self.dtype, name="tokens")(ids)
        places = jnp.arange(ids.shape[1], dtype=jnp.int32)[None]
        x = x + nn.Embed(self.length, self.width, dtype=self.dtype, name="positions")(places)
        x = tap(f"hidden.{modality}.0", x)
        x = Transformer(**switches(self), pre_norm=True, name="transformer")(x, mask, rows, modality, ctx, tap)
        x = tap(f"tokens.{modality}", nn.LayerNorm(self.eps, dtype=self.dtype, name="norm")(x))
        if self.end is None:
            x = x[:, -1]
        else:
            where = jnp.argmax(ids if self.end == 2 else ids == self.end, 1)
            x = jnp.take_along_axis(x, where[:, None, None], 1)[:, 0]
        if self.head is not None:
            x = nn.Dense(self.head, dtype=self.dtype, name="head")(x)
        return tap(f"pooled.{modality}", x)


class Clip(nn.Module):
    """Both towers; the outputs are `features.M`, `embedding.M` in the common space, and every intermediate.

    Formula: similarity of image i and text j: s · ⟨uᵢ, vⱼ⟩ / (‖uᵢ‖ ‖vⱼ‖) + β, with s = exp(`logit_scale`) and
        β = `logit_bias` or 0

    Embeddings are as they come; losses normalise. `logit_scale` and `logit_bias` are scalars.

    Attributes:
        encoders: "text" and "image" -> tower, as a dict.
        width: of the projections, without bias, to the common space; None is none: the features meet as they are.
        biased: whether there is a `logit_bias` (SigLIP).
    """

    encoders: Any
    width: int | None = 512
    biased: bool = False

    @nn.compact
    def __call__(self, batch: Batch, ctx: Context, patch: Outputs) -> Outputs:
        tap = Taps(patch)
        for modality, encode in self.encoders.items():
            x = tap(f"features.{modality}", encode(batch, modality, ctx, tap))
            if self.width is not None:
                dense = nn.Dense(self.width, use_bias=False, dtype=encode.dtype, name=f"projection_{modality}")
                x = dense(x)
            tap(f"embedding.{modality}", x)
        tap("logit_scale", self.param("logit_scale", nn.initializers.constant(jnp.log(1 / 0.07)), ()))
        if self.biased:
            tap("logit_bias", self.param("logit_bias", nn.initializers.constant(-10.0), ()))
        return tap.outputs
