"""Transformer stack of the encoders: one configuration, one layer, unrolled or scanned.

A layer is a pure function of its parameters. Rematerialization (`remat`) and scanning over layers (`scan`) therefore
change neither the layout of the variables nor any result beyond rounding.
"""

import dataclasses
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
from mmkd_jax.typing import Positive, Shape, Share
from mmkd_jax.validation import check_number


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Sizes and options of a Transformer encoder's layers.

    Every pretrained Transformer encoder has one as its attribute `config`; the default is that of a published model.
    Choices that define the architecture, such as pre-norm or causal attention, are attributes of the encoder.

    Attributes:
        embed_dim: dimension of the tokens.
        num_layers: number of layers.
        num_heads: number of attention heads; must divide `embed_dim`.
        mlp_dim: hidden dimension of the MLP.
        activation: activation function of the MLP; a name in `nn.activations`.
        eps: epsilon of the LayerNorms.
        bias: add a bias to queries, keys and values.
        gated_mlp: use a gated MLP.
        layer_scale: scale each residual branch by a learned vector (LayerScale).
        dropout: dropout rate of the embedded tokens and of each residual branch.
        attention_dropout: dropout rate of the attention weights.
        dtype: computation dtype, such as jnp.bfloat16; None is the dtype of the parameters.
        remat: recompute each layer's intermediates in the backward pass (`jax.checkpoint`).
        scan: compile one layer and scan over all (`jax.lax.scan`); patched intermediates unroll the layers anyway.

    Raises:
        UserError: a size is not a positive whole number, `num_heads` does not divide `embed_dim`, the activation is
            unknown, `eps` is not positive, or a dropout rate is not in 0 … 1.

    Example:
        >>> TransformerConfig(embed_dim=768, num_layers=12, num_heads=10, mlp_dim=3072)
        Traceback (most recent call last):
        mmkd_jax.errors.UserError: TransformerConfig: num_heads is 10; expected a divisor of embed_dim, 768
        >>> from mmkd_jax.models import Vit
        >>> dataclasses.replace(Vit.config, num_layers=6).num_heads
        12
    """

    embed_dim: int
    num_layers: int
    num_heads: int
    mlp_dim: int
    activation: str = "gelu"
    eps: float = 1e-12
    bias: bool = True
    gated_mlp: bool = False
    layer_scale: bool = False
    dropout: float = 0.0
    attention_dropout: float = 0.0
    dtype: Any = None
    remat: bool = False
    scan: bool = False

    def __post_init__(self):
        for name in ("embed_dim", "num_layers", "num_heads", "mlp_dim"):
            size = getattr(self, name)
            if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
                raise UserError(f"TransformerConfig: {name} is {size!r}; expected a whole number, 1 or more")
        if self.embed_dim % self.num_heads:
            expected = f"expected a divisor of embed_dim, {self.embed_dim}"
            raise UserError(f"TransformerConfig: num_heads is {self.num_heads}; {expected}")
        activation(self.activation)
        check_number("TransformerConfig: eps", self.eps, Positive)
        for name in ("dropout", "attention_dropout"):
            check_number(f"TransformerConfig: {name}", getattr(self, name), Share)


def attend(
    q: Float[Array, "*b q n k"],
    k: Float[Array, "*b s n k"],
    v: Float[Array, "*b s n k"],
    mask: Bool[Array, "..."] | None,
    tap: Callable[[str, Array], Array],
    drop: Callable[[Array], Array] = lambda weights: weights,
    bias: Float[Array, "..."] | None = None,
) -> Float[Array, "*b q n k"]:
    """Scaled dot-product attention, with the softmax in float32.

    Formula: softmax(q kᵀ / √d + bias) v for each head, with d channels

    Args:
        q: queries, with axes for heads and channels.
        k: keys.
        v: values.
        mask: which keys each query attends to, broadcast to the scores [*b, n, q, s]; None is all.
        tap: applied to `scores`, before mask and softmax, and `attentions`, after both.
        drop: dropout of the attention weights.
        bias: added to the scores [*b, n, q, s], to which it is broadcast; None adds nothing.
    """
    score = jnp.einsum("...qnk,...snk->...nqs", q, k) * q.shape[-1] ** -0.5
    if bias is not None:
        score = score + bias.astype(score.dtype).reshape((1,) * (score.ndim - bias.ndim) + bias.shape)
    score = tap("scores", score)
    if mask is not None:  # finite, so that a row without tokens is not NaN
        score = jnp.where(mask, score, jnp.finfo(score.dtype).min)
    wide = score.astype(np.promote_types(score.dtype, np.float32))
    weights = tap("attentions", jax.nn.softmax(wide, -1).astype(score.dtype))
    return jnp.einsum("...nqs,...snk->...qnk", drop(weights), v)


class Layer(nn.Module):
    """Transformer layer: self-attention and MLP, each with a residual connection and a LayerNorm.

    Formula: x ← LN(x + MHA(x)); x ← LN(x + W₂ φ(W₁ x)), or with `pre_norm` x ← x + MHA(LN(x)); x ← x + W₂ φ(W₁ LN(x));
        with `config.gated_mlp`, φ(W₁ x) is φ(G x) ⊙ V x; with `config.layer_scale`, each residual branch is multiplied
        by a vector

    Variables: `query`, `key`, `value`, `out`, `norm_attention`, `scale_attention`; `grow` is W₁ (G and V concatenated),
    `shrink` is W₂, `norm_output`, `scale_output`.

    Attributes:
        config: sizes and options.
        pre_norm: apply the LayerNorms before attention and MLP, not after the residual additions.
        key_bias: with `config.bias`, add a bias to the keys, too.
        causal: use causal attention.
    """

    config: TransformerConfig
    pre_norm: bool = False
    key_bias: bool = True
    causal: bool = False

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
        """Return the tokens, and the layer's intermediates by name.

        Args:
            x: tokens.
            mask: valid tokens; None is all.
            rows: `example_id`, by which dropout masks are keyed.
            ctx: step context, with a key specific to this layer.
            patch: values that replace intermediates, by name.
            positions: what `attention` needs to know about positions.
        """
        shape, length, tap = x.shape, x.shape[1], Taps(patch)
        attendable = None if mask is None else mask[:, None, None, :]
        if self.causal:
            causal = jnp.tril(jnp.ones((1, 1, length, length), bool))
            attendable = causal if attendable is None else attendable & causal
        x = x.reshape(-1, shape[-1])  # one axis for rows and tokens: plain matrix products, also in the backward pass
        y = self.norm("norm_attention", x) if self.pre_norm else x
        x = x + self.attention(y, shape, attendable, rows, ctx, tap, positions=positions).reshape(x.shape)
        x = x if self.pre_norm else self.norm("norm_attention", x)
        y = self.norm("norm_output", x) if self.pre_norm else x
        x = x + self.branch("output", self.mlp(y), shape, rows, ctx).reshape(x.shape)
        x = x if self.pre_norm else self.norm("norm_output", x)
        return tap("hidden", x.reshape(shape)), tap.outputs

    @nn.nowrap
    def dense(self, name: str, features: int, x: Float[Array, "*b d"], bias: bool = True) -> Float[Array, "*b e"]:
        """Apply a dense layer, with the leading axes as one."""
        y = nn.Dense(features, bias, dtype=self.config.dtype, name=name)(x.reshape(-1, x.shape[-1]))
        return y.reshape(*x.shape[:-1], features)

    @nn.nowrap
    def norm(self, name: str, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        """Apply a LayerNorm."""
        return nn.LayerNorm(self.config.eps, dtype=self.config.dtype, name=name)(x)

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
        """Apply self-attention over the second-to-last axis of `shape`, as a residual branch.

        Args:
            x: tokens, of the given shape or with the leading axes as one.
            shape: shape of the result, [b, …, l, d].
            mask: which keys each query attends to, broadcast to the scores; None is all.
            rows: `example_id`, by which dropout masks are keyed.
            ctx: step context.
            tap: Taps of the layer.
            scope: prefix of the names of variables and intermediates.
            positions: bias of the scores, to which it is broadcast; None adds nothing.
        """
        d, num_heads = shape[-1], self.config.num_heads

        def heads(name, bias):  # tapped with the heads concatenated
            y = tap(scope + PROJECTIONS[name], self.dense(scope + name, d, x, bias).reshape(shape))
            return y.reshape(*shape[:-1], num_heads, d // num_heads)

        def drop(weights):
            return Dropout(self.config.attention_dropout, name=f"dropout_{scope}weights")(weights, ctx, rows)

        bias = self.config.bias
        q, k, v = heads("query", bias), heads("key", bias and self.key_bias), heads("value", bias)
        mixed = attend(q, k, v, mask, lambda name, y: tap(scope + name, y), drop, positions).reshape(-1, d)
        return self.branch(f"{scope}attention", self.dense(f"{scope}out", d, mixed), shape, rows, ctx)

    @nn.nowrap
    def mlp(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        """Apply the MLP."""
        gated, act = self.config.gated_mlp, activation(self.config.activation)
        y = self.dense("grow", self.config.mlp_dim * (2 if gated else 1), x)
        gate, value = jnp.split(y, 2, -1) if gated else (y, None)
        return self.dense("shrink", x.shape[-1], act(gate) if value is None else act(gate) * value)

    @nn.nowrap
    def branch(
        self,
        name: str,
        x: Float[Array, "*b d"],
        shape: Shape,
        rows: Int[Array | np.ndarray, " b"],
        ctx: StepContext,
    ) -> Float[Array, "b ... d"]:
        """Apply LayerScale and dropout to a residual branch, and give it a shape."""
        x = x.reshape(-1, x.shape[-1])
        if self.config.layer_scale:
            x = x * self.param(f"scale_{name}", nn.initializers.ones, x.shape[-1:]).astype(x.dtype)[None]
        return Dropout(self.config.dropout, name=f"dropout_{name}")(x.reshape(shape), ctx, rows)


PROJECTIONS = {"query": "queries", "key": "keys", "value": "values"}
ATTENTION = (*PROJECTIONS.values(), "scores", "attentions")
INTERMEDIATES = (*(f"time_{n}" for n in ATTENTION), *ATTENTION, "hidden")


class Transformer(nn.Module):
    """Transformer stack; layer i outputs `hidden.M.i+1`, and the other intermediates of `Layer` as `NAME.M.i`.

    The variables of the layers are `layer_0` … in all cases, scanned or not.

    Attributes:
        config: sizes and options.
        layer: `config -> layer`, such as `functools.partial(Layer, pre_norm=True)`.
        first: layer 0, if it has other variables than the layers above it; it is not scanned.
        shared: all layers have the variables of layer 0.
        start: number of layer 0 in the names of the outputs, for a stack that follows another.
    """

    config: TransformerConfig
    layer: Callable[..., nn.Module] = Layer
    first: Callable[..., nn.Module] | None = None
    shared: bool = False
    start: int = 0

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        mask: Bool[Array, "b l"] | None,
        rows: Int[Array | np.ndarray, " b"],
        modality: str,
        ctx: StepContext,
        tap: Taps,
        positions: Callable[[Any], tuple] = lambda i: (),
    ) -> Float[Array, "b l d"]:
        """Return the tokens of the last layer.

        Args:
            x: embedded tokens.
            mask: valid tokens; None is all.
            rows: `example_id`, by which dropout masks are keyed.
            modality: M, the name of the modality.
            ctx: step context.
            tap: Taps of the model.
            positions: index of a layer -> a last argument of the layer, if any, in a tuple; the index is traced if the
                layers are scanned or rematerialized.
        """
        config, n = self.config, self.config.num_layers
        kinds = [self.first or self.layer, *[self.layer] * (n - 1)]
        layers = [kind(config, name=f"layer_{i}") for i, kind in enumerate(kinds[: 1 if self.shared else n])]
        layers = layers * n if self.shared else layers
        if self.is_initializing():
            for i, layer in enumerate(layers):
                x, _ = layer(x, mask, rows, ctx, {}, *positions(i))
            return x

        def run(kind, x, values, i, patch):
            layer_ctx = ctx._replace(key=jax.random.fold_in(ctx.at(modality).key, self.start + i))
            layer = kind(config, parent=None)
            return layer.apply({"params": values}, x, mask, rows, layer_ctx, patch, *positions(i))

        run = jax.checkpoint(run, static_argnums=0) if config.remat else run
        values = [layer.variables["params"] for layer in layers]
        names = [_names(modality, self.start + i) for i in range(n)]
        patches = [{name: tap.patch[k] for name, k in pairs.items() if k in tap.patch} for pairs in names]
        start = n if not config.scan or any(patches) else 0 if self.first is None else 1
        collected = []
        for i in range(start):
            x, outputs = run(kinds[i], x, values[i], i, patches[i])
            collected.append(outputs)
        if start < n:
            stacked = None if self.shared else jax.tree.map(lambda *each: jnp.stack(each), *values[start:])

            def step(x, xs):
                return run(self.layer, x, values[0] if self.shared else xs[1], xs[0], {})

            _, outputs = jax.lax.scan(step, x, (jnp.arange(start, n), stacked))
            collected += [{name: y[i] for name, y in outputs.items()} for i in range(n - start)]
        for outputs, pairs in zip(collected, names, strict=True):
            for name, k in pairs.items():
                x = tap(k, outputs[name]) if name in outputs else x
        return x


def _names(modality, i):
    """Names of a layer's intermediates -> names of the model's outputs; the hidden state comes last."""
    return {n: f"{n}.{modality}.{i + (n == 'hidden')}" for n in INTERMEDIATES}
