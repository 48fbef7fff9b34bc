"""The Transformer stack of pretrained encoders: one layer with switches, unrolled or scanned.

A layer is a pure function of its parameters, so that recomputing it in the backward pass (`remat`) and compiling one
layer for all (`scan`) change neither the layout of the variables nor any result beyond rounding.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mmkd_jax.errors import UserError
from mmkd_jax.models.activations import activation
from mmkd_jax.models.dropout import Dropout
from mmkd_jax.views import Context, Taps


class Layer(nn.Module):
    """Self-attention and two dense layers, each beside a residual connection and with a LayerNorm.

    Formula: x ← LN(x + MHA(x)); x ← LN(x + W₂ φ(W₁ x)), or with `pre_norm` x ← x + MHA(LN(x)); x ← x + W₂ φ(W₁ LN(x));
        with `gated`, φ(W₁ x) is φ(G x) ⊙ V x; with `scaled`, what is added to x is multiplied by a vector

    Attributes:
        heads: of the attention.
        inner: width between the two dense layers.
        activation: φ, a name of `models.activations`.
        eps: of the LayerNorms.
        pre_norm: where they stand.
        gated: whether W₁ gives gate and value of twice the inner width.
        scaled: whether what is added is scaled (LayerScale).
        bias: whether queries, keys and values have one.
        key_bias: whether keys have one, too.
        causal: whether a token sees those before it only.
        dropout: rate on what is added to the residual connection.
        attention_dropout: rate on the attention's weights.
        dtype: of the computation; the parameters' own, if None.
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
        ctx: Context,
        patch: dict[str, Any],
    ) -> tuple[Float[Array, "b l d"], dict[str, Any]]:
        """Returns the tokens, and the layer's intermediates by name.

        Args:
            x: tokens.
            mask: which tokens are there; all, if None.
            rows: `example_id`, to which the dropout masks belong.
            ctx: of the step, with a key of this layer's own.
            patch: values in the place of intermediates.
        """
        b, length, d = x.shape
        tap, flat = Taps(patch), (b * length, d)  # rows and tokens as one axis: plain matrix products, also backward

        def dense(name, width, y, bias=True):
            return nn.Dense(width, bias, dtype=self.dtype, name=name)(y)

        def norm(name, y):
            return nn.LayerNorm(self.eps, dtype=self.dtype, name=name)(y)

        def added(name, y, residual):
            if self.scaled:
                y = y * self.param(f"scale_{name}", nn.initializers.ones, (d,)).astype(y.dtype)
            dropped = Dropout(self.dropout, name=f"dropout_{name}")(y.reshape(b, length, d), ctx, rows)
            return residual + dropped.reshape(flat)

        def heads(name, y):  # tapped with the heads side by side
            return tap(name, y.reshape(b, length, d)).reshape(b, length, self.heads, d // self.heads)

        x = x.reshape(flat)
        seen = norm("norm_attention", x) if self.pre_norm else x
        biased = {"query": self.bias, "key": self.bias and self.key_bias, "value": self.bias}
        q, k, v = (heads(plural, dense(name, d, seen, biased[name])) for name, plural in PROJECTIONS.items())
        score = tap("scores", jnp.einsum("bqnk,bsnk->bnqs", q, k) * (d // self.heads) ** -0.5)
        seen = None if mask is None else mask[:, None, None, :]
        if self.causal:
            before = jnp.tril(jnp.ones((1, 1, length, length), bool))
            seen = before if seen is None else seen & before
        if seen is not None:  # finite: a row without tokens is no NaN
            score = jnp.where(seen, score, jnp.finfo(score.dtype).min)
        weights = tap("attentions", jax.nn.softmax(score.astype(jnp.float32), -1).astype(score.dtype))
        weights = Dropout(self.attention_dropout, name="dropout_weights")(weights, ctx, rows)
        mixed = jnp.einsum("bnqs,bsnk->bqnk", weights, v).reshape(flat)
        x = added("attention", dense("out", d, mixed), x)
        x = x if self.pre_norm else norm("norm_attention", x)
        seen = norm("norm_output", x) if self.pre_norm else x
        act, y = activation(self.activation), dense("grow", self.inner * (2 if self.gated else 1), seen)
        gate, value = jnp.split(y, 2, -1) if self.gated else (y, None)
        x = added("output", dense("shrink", d, act(gate) if value is None else act(gate) * value), x)
        x = x if self.pre_norm else norm("norm_output", x)
        return tap("hidden", x.reshape(b, length, d)), tap.outputs


PROJECTIONS = {"query": "queries", "key": "keys", "value": "values"}
ATTENTION = (*PROJECTIONS.values(), "scores", "attentions")
INTERMEDIATES = (*(f"time_{n}" for n in ATTENTION), *ATTENTION, "hidden")


class Transformer(nn.Module):
    """Layers one after the other; layer i gives `hidden.M.i+1`, and the other intermediates of `Layer` as `NAME.M.i`.

    Attributes:
        layers: how many; their variables are `layer_0` …, in every form.
        heads: of each attention; divides the width.
        inner: width between the two dense layers of each.
        activation: a name of `models.activations`.
        eps: of the LayerNorms.
        pre_norm: whether they stand before attention and dense layers, or after.
        gated: whether the dense layers have a gate.
        scaled: whether what is added to the residual connection is scaled (LayerScale).
        bias: whether queries, keys and values have one.
        key_bias: whether keys have one, too.
        causal: whether a token sees those before it only.
        dropout: rate on what is added to the residual connection.
        attention_dropout: rate on the attention's weights.
        dtype: of the computation; the parameters' own, if None.
        remat: forget the intermediates after the forward pass, and compute them again for the backward pass.
        scan: compile one layer for all; where an intermediate is patched, the layers are unrolled all the same.
        layer: makes a layer of these attributes, in the place of `Layer`.
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
        ctx: Context,
        tap: Taps,
    ) -> Float[Array, "b l d"]:
        """The last tokens.

        Args:
            x: embedded tokens.
            mask: which tokens are there; all, if None.
            rows: `example_id`.
            modality: M.
            ctx: of the step.
            tap: of the model.

        Raises:
            UserError: the heads do not divide the width.
        """
        if x.shape[-1] % self.heads:
            raise UserError(f"{modality}: {self.heads} heads do not divide a width of {x.shape[-1]}")
        same = {f: getattr(self, f) for f in LAYER}
        own = [self.layer(**same, name=f"layer_{i}") for i in range(self.layers)]
        if self.is_initializing():
            for layer in own:
                x, _ = layer(x, mask, rows, ctx, {})
            return x

        def run(x, values, i, patch):
            here = ctx._replace(key=jax.random.fold_in(ctx.at(modality).key, i))
            return self.layer(**same, parent=None).apply({"params": values}, x, mask, rows, here, patch)

        run = jax.checkpoint(run) if self.remat else run
        values = [layer.variables["params"] for layer in own]
        patches = [{n: tap.patch[k] for n, k in _names(modality, i).items() if k in tap.patch} for i in range(len(own))]
        if self.scan and own and not any(patches):
            stacked = jax.tree.map(lambda *each: jnp.stack(each), *values)
            _, outputs = jax.lax.scan(lambda x, now: run(x, *now, {}), x, (stacked, jnp.arange(self.layers)))
            given = [{n: y[i] for n, y in outputs.items()} for i in range(self.layers)]
        else:
            given = []
            for i, (value, patch) in enumerate(zip(values, patches, strict=True)):
                x, outputs = run(x, value, i, patch)
                given.append(outputs)
        for i, outputs in enumerate(given):
            for n, k in _names(modality, i).items():
                x = tap(k, outputs[n]) if n in outputs else x
        return x


LAYER = "heads inner activation eps pre_norm gated scaled bias key_bias causal dropout attention_dropout dtype".split()
STACK = ["layers", *LAYER, "remat", "scan"]


def switches(encoder: nn.Module) -> dict[str, Any]:
    """The attributes of a stack that an encoder has under the same names."""
    return {f: getattr(encoder, f) for f in STACK if hasattr(encoder, f)}


def _names(modality, i):
    """A layer's own name for an intermediate -> the model's; the hidden state comes last."""
    return {n: f"{n}.{modality}.{i + (n == 'hidden')}" for n in INTERMEDIATES}
