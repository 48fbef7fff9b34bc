"""Heads: `embedding -> task output`, and `encoder outputs -> logits` of fine-tuned encoders."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mmkd_jax.core.model import StepContext
from mmkd_jax.nn.activations import activation
from mmkd_jax.nn.dropout import Dropout
from mmkd_jax.nn.pooling import masked_mean


class Classifier(nn.Module):
    """Linear classifier with logits in at least float32.

    Attributes:
        classes: number of classes.
    """

    classes: int

    @nn.compact
    def __call__(self, x: Float[Array, "... d"]) -> Float[Array, "... c"]:
        logits = nn.Dense(self.classes)(x)
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


class TaskHead(nn.Module):
    """Head of a fine-tuned encoder, such as a classifier, a tagger or a masked language model.

    Formula: z = φ(W₁ x + b₁) with `width`, else x; logits = W z + b, in at least float32

    Attributes:
        classes: number of logits.
        read: x: all "tokens"; the "first" or the "second" token; their "mean" after the prefix, without padding; the
            mean of the "prefix"; "first_and_mean", concatenated; the output "pooled" or "features" of the encoder.
        tokens: output that contains the tokens: "tokens", or "hidden", that of the last layer.
        num_prefix_tokens: number of tokens before those of the input, such as a class token.
        num_layers: average this many hidden states, of which the tokens are the last, with learned weights; 0 takes the
            tokens alone.
        width: width of the hidden layer; None omits it.
        activation: φ, a name in `nn.activations`; None is the identity.
        norm: LayerNorm on the "input", on the "hidden" layer, or None.
        bias: add a bias to the hidden layer and the LayerNorm.
        eps: epsilon of the LayerNorm.
        tied: use the encoder's token embeddings as W (masked language models).
        input_dropout: dropout rate of x.
        dropout: dropout rate of z.
        problem: "single_label_classification", "multi_label_classification" or "regression"; "" for other tasks.
    """

    classes: int
    read: str = "first"
    tokens: str = "hidden"
    num_prefix_tokens: int = 0
    num_layers: int = 0
    width: int | None = None
    activation: str | None = None
    norm: str | None = None
    bias: bool = True
    eps: float = 1e-12
    tied: bool = False
    input_dropout: float = 0.0
    dropout: float = 0.0
    problem: str = ""

    @nn.compact
    def __call__(
        self,
        outputs: Mapping[str, Any],
        modality: str,
        mask: Bool[Array, "b l"] | None,
        rows: Int[Array | np.ndarray, " b"],
        ctx: StepContext,
        embedding: Float[Array, "v d"] | None = None,
    ) -> Float[Array, "b ... c"]:
        """Return the logits.

        Args:
            outputs: outputs of the encoder, by name.
            modality: M, the encoder's modality.
            mask: valid tokens; None is all.
            rows: `example_id`, by which dropout masks are keyed.
            ctx: step context.
            embedding: token embeddings of the encoder, for `tied`.
        """
        x = self._read(outputs, modality, mask)
        x = Dropout(self.input_dropout, name="dropped_input")(x, ctx, rows)
        if self.norm == "input":
            x = nn.LayerNorm(self.eps, dtype=x.dtype, use_bias=self.bias, name="norm")(x)
        if self.width is not None:
            x = nn.Dense(self.width, self.bias, dtype=x.dtype, name="hidden")(x)
            x = x if self.activation is None else activation(self.activation)(x)
        if self.norm == "hidden":
            x = nn.LayerNorm(self.eps, dtype=x.dtype, use_bias=self.bias, name="norm")(x)
        x = Dropout(self.dropout, name="dropped")(x, ctx, rows)
        if embedding is not None and self.tied:
            bias = self.param("bias", nn.initializers.zeros, (self.classes,))
            logits = x @ embedding.astype(x.dtype).T + bias.astype(x.dtype)
        else:
            logits = nn.Dense(self.classes, dtype=x.dtype, name="out")(x)
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    @nn.nowrap
    def _read(self, outputs: Mapping[str, Any], modality: str, mask: Bool[Array, "b l"] | None) -> Float[Array, "..."]:
        if self.read in ("pooled", "features"):
            return outputs[f"{self.read}.{modality}"]
        hidden = [x for n, x in outputs.items() if n.startswith(f"hidden.{modality}.")]
        x = hidden[-1] if self.tokens == "hidden" else outputs[f"tokens.{modality}"]
        if self.num_layers:
            weights = jax.nn.softmax(self.param("layer_weights", nn.initializers.ones, (self.num_layers,)))
            states = hidden[:-1] + [x] * (self.num_layers - len(hidden) + 1)  # layers have no outputs in `init`
            x = sum(w.astype(x.dtype) * y for w, y in zip(weights, states, strict=True))
        if self.read == "tokens":
            return x
        if self.read in ("first", "second"):
            return x[:, 0 if self.read == "first" else 1]
        if self.read == "prefix":
            return x[:, : self.num_prefix_tokens].mean(1)
        valid = None if mask is None else mask[:, self.num_prefix_tokens :]
        mean = masked_mean(x[:, self.num_prefix_tokens :], valid)
        return mean if self.read == "mean" else jnp.concatenate([x[:, 0], mean], -1)
