"""CLIP and SigLIP: dual encoders with a shared embedding space."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax import numeric
from mmkd_jax.core.model import Batch, ModelOutputs, StepContext, Taps
from mmkd_jax.models._text import token_inputs, token_sample
from mmkd_jax.nn.dropout import Dropout
from mmkd_jax.nn.transformer import Layer, Transformer, TransformerConfig


class ClipText(nn.Module):
    """Text encoder of CLIP and SigLIP, a pre-norm Transformer: `(batch, modality, ctx, tap) -> features` [b, d].

    Formula: x₀ = E[token] + P[position]; the layers of `nn.transformer`; LN; the end-of-text token

    Outputs, in addition to those of the layers: `hidden.M.0`, the embedded tokens; `tokens.M`, the last tokens after
    the LayerNorm; `tokens_mask.M`, their mask; `pooled.M`, the features.

    Attributes:
        vocabulary: number of token ids.
        config: sizes and options of the layers; the default is that of CLIP ViT-B.
        length: number of position embeddings.
        causal: use causal attention (CLIP).
        end: end-of-text id; the features are read at its first position. 2 selects the largest id instead, which is its
            meaning in old CLIP configurations; None selects the last position, padding or not (SigLIP).
        head: width of a dense layer on the features; None omits the layer.

    Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, 2021,
        https://arxiv.org/abs/2103.00020
    """

    vocabulary: int = 49408
    config: TransformerConfig = TransformerConfig(
        embed_dim=512, num_layers=12, num_heads=8, mlp_dim=2048, activation="quick_gelu", eps=1e-5
    )
    length: int = 77
    causal: bool = True
    end: int | None = 49407
    head: int | None = None

    @nn.nowrap
    def sample(self, modality: str) -> dict[str, Array]:
        """Return the smallest valid batch, for shape inference."""
        return token_sample(modality)

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: StepContext, tap: Taps) -> Float[Array, "b d"]:
        config, rows = self.config, batch["example_id"]
        ids, mask, _ = token_inputs(batch, modality, self.length, tap)

        def embed(name, size, ids):
            return nn.Embed(size, config.embed_dim, dtype=config.dtype, name=name)(ids)

        positions = jnp.arange(ids.shape[1], dtype=jnp.int32)[None]
        x = embed("tokens", self.vocabulary, ids) + embed("positions", self.length, positions)
        x = tap(f"hidden.{modality}.0", Dropout(config.dropout, name="dropped")(x, ctx, rows))
        stack = Transformer(config, partial(Layer, pre_norm=True, causal=self.causal), name="transformer")
        x = stack(x, mask, rows, modality, ctx, tap)
        x = tap(f"tokens.{modality}", nn.LayerNorm(config.eps, dtype=config.dtype, name="norm")(x))
        if self.end is None:
            x = x[:, -1]
        else:
            end = jnp.argmax(ids if self.end == 2 else ids == self.end, 1)
            x = jnp.take_along_axis(x, end[:, None, None], 1)[:, 0]
        if self.head is not None:
            x = nn.Dense(self.head, dtype=config.dtype, name="head")(x)
        return tap(f"pooled.{modality}", x)


class Clip(nn.Module):
    """CLIP or SigLIP dual encoder; outputs are `features.M`, `embedding.M` in the shared space, and every intermediate.

    Formula: similarity of image i and text j: s · ⟨uᵢ, vⱼ⟩ / (‖uᵢ‖ ‖vⱼ‖) + β, with s = exp(`logit_scale`) and
        β = `logit_bias` or 0

    Embeddings are not normalized; the losses normalize them. `logit_scale` and `logit_bias` are scalars. A zero-shot
    classifier, with `classes`, outputs the similarities with the embeddings of its classes as `logits` [b, classes].

    Attributes:
        encoders: "text" and "image" -> encoder, as a dict.
        width: dimension of the shared space, reached by projections without bias; None uses the features unprojected.
        biased: add a `logit_bias` (SigLIP).
        scaled: add a `logit_scale`; False for a single encoder with its projection.
        classes: number of classes of an image encoder whose `logits` are similarities with the variables
            `class_embeddings`, of unit length; None for no logits. See `pretrained.zero_shot`.
    """

    encoders: Any
    width: int | None = 512
    biased: bool = False
    scaled: bool = True
    classes: int | None = None

    @nn.compact
    def __call__(self, batch: Batch, ctx: StepContext, patch: ModelOutputs) -> ModelOutputs:
        tap = Taps(patch)
        for modality, encode in self.encoders.items():
            x = tap(f"features.{modality}", encode(batch, modality, ctx, tap))
            if self.width is not None:
                x = nn.Dense(self.width, use_bias=False, dtype=x.dtype, name=f"projection_{modality}")(x)
            tap(f"embedding.{modality}", x)
        if self.scaled:
            scale = self.param("logit_scale", nn.initializers.constant(jnp.log(1 / 0.07)), ())
            tap("logit_scale", scale)
        if self.biased:
            tap("logit_bias", self.param("logit_bias", nn.initializers.constant(-10.0), ()))
        if self.classes is not None:
            embedding = tap.outputs["embedding.image"].astype(jnp.float32)
            shape = (self.classes, embedding.shape[-1])
            known = self.param("class_embeddings", nn.initializers.normal(shape[1] ** -0.5), shape)
            similarity = numeric.inner(numeric.unit(embedding), known)
            tap("logits", jnp.exp(tap.outputs["logit_scale"]) * similarity + tap.outputs.get("logit_bias", 0.0))
        return tap.outputs
