"""Transformer stack of the pretrained encoders: one configurable layer, unrolled or scanned.

A layer is a pure function of its parameters. Rematerialization (`remat`) and scanning over layers (`scan`) therefore
change neither the layout of the variables nor any result beyond rounding.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mmkd_jax.core.model import StepContext, Taps
from mmkd_jax.errors import UserError
from mmkd_jax.nn.activations import activation
from mmkd_jax.nn.dropout import Dropout


class Layer(nn.Module):
    """Transformer layer: self-attention and MLP, each with a residual connection and a LayerNorm.

    Formula: x ← LN(x + MHA(x)); x ← LN(x + W₂ φ(W₁ x)), or with `pre_norm` x ← x + MHA(LN(x)); x ← x + W₂ φ(W₁ LN(x));
        with `gated`, φ(W₁ x) is φ(G x) ⊙ V x; with `scaled`, each residual branch is multiplied by a vector

    Attributes:
        heads: number of attention heads.
        inner: hidden width of the MLP.
        activation: φ, a name in `nn.activations`.
        eps: epsilon of the LayerNorms.
        pre_norm: apply the LayerNorms before attention and MLP, not after the residual additions.
        gated: use a gated MLP, with W₁ computing gate and value.
        scaled: scale each residual branch by a learned vector (LayerScale).
        bias: add a bias to queries, keys and values.
        key_bias: with `bias`, add it to the keys, too.
        causal: use causal attention.
        dropout: dropout rate of each residual branch.
        attention_dropout: dropout rate of the attention weights.
        dtype: computation dtype; None is the dtype of the parameters.
    """

    heads: int
    inner: int
    activation: str = "gelu"
    eps: float = 1e-12
    pre_norm: bool = False
    gated: bool = False
    scaled: bool = False
    bias: bool = True
    key_bias: bool = True
    causal: bool = False
    dropout: float = 0.0
    attention_dropout: float = 0.0
    dtype: Any = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        mask: Bool[Array, "b l"] | None,
        rows: Int[Array | np.ndarray, " b"],
        ctx: StepContext,
        patch: dict[str, Any],
    ) -> tuple[Float[Array, "b l d"], dict[str, Any]]:
        """Return the tokens, and the layer's intermediates by name.

        Args:
            x: tokens.
            mask: valid tokens; None is all.
            rows: `example_id`, by which dropout masks are keyed.
            ctx: step context, with a key specific to this layer.
            patch: values that replace intermediates, by name.
        """
        b, length, d = x.shape
        tap, flat = Taps(patch), (b * length, d)  # one axis for rows and tokens: plain matrix products, also backward

        def dense(name, width, y, bias=True):
            return nn.Dense(width, bias, dtype=self.dtype, name=name)(y)

        def norm(name, y):
            return nn.LayerNorm(self.eps, dtype=self.dtype, name=name)(y)

        def add_residual(name, y, residual):
            if self.scaled:
                y = y * self.param(f"scale_{name}", nn.initializers.ones, (d,)).astype(y.dtype)
            dropped = Dropout(self.dropout, name=f"dropout_{name}")(y.reshape(b, length, d), ctx, rows)
            return residual + dropped.reshape(flat)

        def heads(name, y):  # tapped with the heads concatenated
            return tap(name, y.reshape(b, length, d)).reshape(b, length, self.heads, d // self.heads)

        x = x.reshape(flat)
        y = norm("norm_attention", x) if self.pre_norm else x
        biased = {"query": self.bias, "key": self.bias and self.key_bias, "value": self.bias}
        q, k, v = (heads(plural, dense(name, d, y, biased[name])) for name, plural in PROJECTIONS.items())
        score = tap("scores", jnp.einsum("bqnk,bsnk->bnqs", q, k) * (d // self.heads) ** -0.5)
        attendable = None if mask is None else mask[:, None, None, :]
        if self.causal:
            causal = jnp.tril(jnp.ones((1, 1, length, length), bool))
            attendable = causal if attendable is None else attendable & causal
        if attendable is not None:  # finite, so that a row without tokens is not NaN
            score = jnp.where(attendable, score, jnp.finfo(score.dtype).min)
        weights = tap("attentions", jax.nn.softmax(score.astype(jnp.float32), -1).astype(score.dtype))
        weights = Dropout(self.attention_dropout, name="dropout_weights")(weights, ctx, rows)
        mixed = jnp.einsum("bnqs,bsnk->bqnk", weights, v).reshape(flat)
        x = add_residual("attention", dense("out", d, mixed), x)
        x = x if self.pre_norm else norm("norm_attention", x)
        y = norm("norm_output", x) if self.pre_norm else x
        act, y = activation(self.activation), dense("grow", self.inner * (2 if self.gated else 1), y)
        gate, value = jnp.split(y, 2, -1) if self.gated else (y, None)
        x = add_residual("output", dense("shrink", d, act(gate) if value is None else act(gate) * value), x)
        x = x if self.pre_norm else norm("norm_output", x)
        return tap("hidden", x.reshape(b, length, d)), tap.outputs


PROJECTIONS = {"query": "queries", "key": "keys", "value": "values"}
ATTENTION = (*PROJECTIONS.values(), "scores", "attentions")
INTERMEDIATES = (*(f"time_{n}" for n in ATTENTION), *ATTENTION, "hidden")


class Transformer(nn.Module):
    """Transformer stack; layer i outputs `hidden.M.i+1`, and the other intermediates of `Layer` as `NAME.M.i`.

    Attributes:
        layers: number of layers; their variables are `layer_0` … in all cases, scanned or not.
        heads: number of attention heads; must divide the width.
        inner: hidden width of the MLP.
        activation: activation function of the MLP; a name in `nn.activations`.
        eps: epsilon of the LayerNorms.
        pre_norm: apply the LayerNorms before attention and MLP, not after the residual additions.
        gated: use a gated MLP.
        scaled: scale each residual branch by a learned vector (LayerScale).
        bias: add a bias to queries, keys and values.
        key_bias: with `bias`, add it to the keys, too.
        causal: use causal attention.
        dropout: dropout rate of each residual branch.
        attention_dropout: dropout rate of the attention weights.
        dtype: computation dtype; None is the dtype of the parameters.
        remat: recompute each layer's intermediates in the backward pass (`jax.checkpoint`).
        scan: compile one layer and scan over all (`jax.lax.scan`); patched intermediates unroll the layers anyway.
        layer: layer class to use instead of `Layer`, called with these attributes.
    """

    layers: int
    heads: int
    inner: int
    activation: str = "gelu"
    eps: float = 1e-12
    pre_norm: bool = False
    gated: bool = False
    scaled: bool = False
    bias: bool = True
    key_bias: bool = True
    causal: bool = False
    dropout: float = 0.0
    attention_dropout: float = 0.0
    dtype: Any = None
    remat: bool = False
    scan: bool = False
    layer: Callable[..., nn.Module] = Layer

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        mask: Bool[Array, "b l"] | None,
        rows: Int[Array | np.ndarray, " b"],
        modality: str,
        ctx: StepContext,
        tap: Taps,
    ) -> Float[Array, "b l d"]:
        """Return the tokens of the last layer.

        Args:
            x: embedded tokens.
            mask: valid tokens; None is all.
            rows: `example_id`, by which dropout masks are keyed.
            modality: M, the name of the modality.
            ctx: step context.
            tap: Taps of the model.

        Raises:
            UserError: the number of heads does not divide the width.
        """
        if x.shape[-1] % self.heads:
            raise UserError(f"{modality}: {self.heads} heads do not divide a width of {x.shape[-1]}")
        same = {f: getattr(self, f) for f in LAYER}
        layers = [self.layer(**same, name=f"layer_{i}") for i in range(self.layers)]
        if self.is_initializing():
            for layer in layers:
                x, _ = layer(x, mask, rows, ctx, {})
            return x

        def run(x, values, i, patch):
            layer_ctx = ctx._replace(key=jax.random.fold_in(ctx.at(modality).key, i))
            return self.layer(**same, parent=None).apply({"params": values}, x, mask, rows, layer_ctx, patch)

        run = jax.checkpoint(run) if self.remat else run
        values = [layer.variables["params"] for layer in layers]
        names = [_names(modality, i) for i in range(self.layers)]
        patches = [{n: tap.patch[k] for n, k in pairs.items() if k in tap.patch} for pairs in names]
        if self.scan and layers and not any(patches):
            stacked = jax.tree.map(lambda *each: jnp.stack(each), *values)
            _, outputs = jax.lax.scan(lambda x, xs: run(x, *xs, {}), x, (stacked, jnp.arange(self.layers)))
            collected = [{n: y[i] for n, y in outputs.items()} for i in range(self.layers)]
        else:
            collected = []
            for i, (value, patch) in enumerate(zip(values, patches, strict=True)):
                x, outputs = run(x, value, i, patch)
                collected.append(outputs)
        for outputs, pairs in zip(collected, names, strict=True):
            for n, k in pairs.items():
                x = tap(k, outputs[n]) if n in outputs else x
        return x


LAYER = "heads inner activation eps pre_norm gated scaled bias key_bias causal dropout attention_dropout dtype".split()
STACK = ["layers", *LAYER, "remat", "scan"]


def switches(encoder: nn.Module) -> dict[str, Any]:
    """Return the encoder attributes that `Transformer` takes under the same names."""
    return {f: getattr(encoder, f) for f in STACK if hasattr(encoder, f)}


def _names(modality, i):
    """Names of a layer's intermediates -> names of the model's outputs; the hidden state comes last."""
    return {n: f"{n}.{modality}.{i + (n == 'hidden')}" for n in INTERMEDIATES}
