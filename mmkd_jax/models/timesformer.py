"""TimeSformer: `(batch, modality, ctx, tap) -> features` [b, d] of a video."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mmkd_jax.errors import UserError, choices
from mmkd_jax.modalities import unit
from mmkd_jax.models.activations import activation
from mmkd_jax.models.dropout import Dropout
from mmkd_jax.models.frames import each_frame, frames_there
from mmkd_jax.models.pooling import mean_where
from mmkd_jax.models.transformer import PROJECTIONS, Layer, Transformer, switches
from mmkd_jax.models.vit import normalised, patches
from mmkd_jax.views import Batch, Context, Taps

DIVIDED, SPACE, JOINT = ATTENTIONS = ("divided_space_time", "space_only", "joint_space_time")


class Timesformer(nn.Module):
    """A pre-norm Transformer encoder on the patches of a video's frames, whose attention goes over time and space.

    Formula: x₀ = [class + p₀, E patches + positions in space + positions in time]; layers; LN

    Videos are uint8, or floats of 0 … 1; mean and standard deviation are taken here. Of another size or number of
    frames than the model was trained on, positions in space and in time are those nearest. `video.mask` [b, t] says
    which frames there are: the others are not seen, and not pooled.

    Outputs besides those of the layers: `hidden.M.0`, the embedded patches [b, l, d], the class's token before those of
    the first place in all frames, of the second, …; `tokens.M`, the last tokens after the LayerNorm. With attention in
    space only, each frame has a class token of its own, and every output frames as its second axis, [b, t, l, d].

    Attributes:
        size: height and width of the frames that the table of positions was made for, px.
        patch: height and width of a patch, px.
        frames: for which the table of positions in time was made.
        channels: of the frames.
        width: of the tokens.
        layers: how many.
        heads: of each attention.
        inner: width between a layer's two dense layers.
        attention: "divided_space_time": over time, then over space (`Divided`); "joint_space_time": over all tokens;
            "space_only": within each frame, the features being the mean over frames.
        pool: what the features are: "first" token, or "mean" of the patches.
        mean: of each channel, in 0 … 1.
        std: standard deviation of each channel.
        activation: a name of `models.activations`.
        eps: of the LayerNorms.
        bias: whether queries, keys and values have one.
        dropout: rate on embedded patches and on what is added to a residual connection, in training.
        attention_dropout: rate on the attention's weights, in training.
        dtype: of the computation, such as jnp.bfloat16; the parameters' own, if None.
        remat: compute a layer's intermediates again for the backward pass.
        scan: compile one layer for all.

    Source: Bertasius et al., Is Space-Time Attention All You Need for Video Understanding?, 2021,
        https://arxiv.org/abs/2102.05095
    """

    size: tuple[int, ...] = (224, 224)
    patch: tuple[int, ...] = (16, 16)
    frames: int = 8
    channels: int = 3
    width: int = 768
    layers: int = 12
    heads: int = 12
    inner: int = 3072
    attention: str = DIVIDED
    pool: str = "first"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    activation: str = "gelu"
    eps: float = 1e-6
    bias: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0
    dtype: Any = None
    remat: bool = False
    scan: bool = False

    @nn.nowrap
    def sample(self, modality: str) -> dict[str, Array]:
        """The smallest batch, for shapes."""
        return {modality: jnp.zeros((1, self.frames, *self.size, self.channels), jnp.uint8)}

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: Context, tap: Taps) -> Float[Array, "b d"]:
        for name, value, known in (("attention", self.attention, ATTENTIONS), ("pool", self.pool, ("first", "mean"))):
            if value not in known:
                raise UserError(f"{modality}: {name} is {value!r}; there are: {choices(known)}")
        rows, (x, mask) = batch["example_id"], frames_there(batch, modality)
        x = normalised(unit(x), self.mean, self.std, modality, 3)
        b, t = x.shape[:2]
        x = patches(x.reshape(b * t, *x.shape[2:]), self.patch, modality)
        old, grid = tuple(n // p for n, p in zip(self.size, self.patch, strict=True)), x.shape[1:3]
        shape = (*self.patch, self.channels, self.width)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        x = x.reshape(-1, x.shape[-1]) @ kernel.reshape(-1, self.width) + bias[None]
        table = self.param("positions", nn.initializers.normal(0.02), (1 + old[0] * old[1], self.width))
        first = self.param("class", nn.initializers.zeros, (self.width,)) + table[0]
        down, across = (_nearest(o, n) for o, n in zip(old, grid, strict=True))
        where = table[1:].reshape(*old, self.width)[down][:, across].reshape(1, 1, -1, self.width)
        if self.attention != SPACE:
            time = self.param("times", nn.initializers.zeros, (self.frames, self.width))[_nearest(self.frames, t)]
            where = where + time[None, :, None]
        x = x.reshape(b, t, -1, self.width) + where.astype(x.dtype)
        if self.attention != SPACE:
            x = x.swapaxes(1, 2).reshape(b, -1, self.width)
        first = jnp.broadcast_to(first.astype(x.dtype), (*x.shape[:-2], 1, self.width))
        x = Dropout(self.dropout, name="dropped")(jnp.concatenate([first, x], -2), ctx, rows)

        here = None  # which tokens are there: the class's, and those of such frames
        if mask is not None and self.attention != SPACE:
            here = jnp.pad(jnp.tile(mask, (1, grid[0] * grid[1])), ((0, 0), (1, 0)), constant_values=True)

        def encode(x, rows, ctx, tap):
            layer = partial(Divided, frames=t) if self.attention == DIVIDED else Layer
            stack = Transformer(**switches(self), pre_norm=True, layer=layer, name="transformer")
            x = stack(tap(f"hidden.{modality}.0", x), here, rows, modality, ctx, tap)
            return tap(f"tokens.{modality}", nn.LayerNorm(self.eps, dtype=self.dtype, name="norm")(x))

        if self.attention != SPACE:
            x = encode(x, rows, ctx, tap)
            return x[:, 0] if self.pool == "first" else mean_where(x[:, 1:], None if here is None else here[:, 1:])
        x = each_frame(encode, x, rows, ctx, tap, mask)
        x = x[:, :, :1] if self.pool == "first" else x[:, :, 1:]
        return mean_where(x.reshape(b, -1, self.width), None if mask is None else jnp.repeat(mask, x.shape[2], 1))


class Divided(Layer):
    """Attention of each place over time, attention of each frame over space, and two dense layers; pre-norm alone.

    Formula: x ← x + W MHA_time(LN(x)); x ← x + MHA_space(LN(x)); x ← x + W₂ φ(W₁ LN(x))

    The class's token takes no part in the first; each frame's second gives it something of its own, of which it gets
    the mean over the frames there are. Outputs besides those of `Layer`, which are of the attention over space and have
    frames as their second axis: `time_queries.M.i`, `time_keys.M.i`, `time_values.M.i` [b, places, t, d],
    `time_scores.M.i` and `time_attentions.M.i` [b, places, heads, t, t].

    Attributes:
        frames: t.
    """

    frames: int = 1

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        mask: Bool[Array, "b l"] | None,
        rows: Int[Array | np.ndarray, " b"],
        ctx: Context,
        patch: dict[str, Any],
    ) -> tuple[Float[Array, "b l d"], dict[str, Any]]:
        b, _, d = x.shape
        there = None if mask is None else mask[:, 1 : 1 + self.frames]  # of the first place, as of all others
        tap = Taps(patch)

        def dense(name, width, y, bias=True):  # all but the last as one axis: plain matrix products, also backward
            z = nn.Dense(width, bias, dtype=self.dtype, name=name)(y.reshape(-1, y.shape[-1]))
            return z.reshape(*y.shape[:-1], width)

        def norm(name, y):
            return nn.LayerNorm(self.eps, dtype=self.dtype, name=name)(y)

        def dropped(name, y):
            return Dropout(self.dropout, name=f"dropout_{name}")(y, ctx, rows)

        def attention(own, y, seen=None):  # over the last axis but one
            def heads(name, plural):
                z = tap(own + plural, dense(own + name, d, y, self.bias))
                return z.reshape(*y.shape[:-1], self.heads, d // self.heads)

            q, k, v = (heads(name, plural) for name, plural in PROJECTIONS.items())
            score = tap(f"{own}scores", jnp.einsum("biqnk,bisnk->binqs", q, k) * (d // self.heads) ** -0.5)
            if seen is not None:
                score = jnp.where(seen[:, None, None, None], score, jnp.finfo(score.dtype).min)
            weights = tap(f"{own}attentions", jax.nn.softmax(score.astype(jnp.float32), -1).astype(score.dtype))
            weights = Dropout(self.attention_dropout, name=f"dropout_{own}weights")(weights, ctx, rows)
            mixed = jnp.einsum("binqs,bisnk->biqnk", weights, v).reshape(y.shape)
            return dropped(f"{own}attention", dense(f"{own}out", d, mixed))

        first, places = x[:, :1], x[:, 1:].reshape(b, -1, self.frames, d)
        places = places + dense("time_dense", d, attention("time_", norm("norm_time", places), there))
        each = jnp.broadcast_to(first[:, None], (b, self.frames, 1, d))
        seen = attention("", norm("norm_attention", jnp.concatenate([each, places.swapaxes(1, 2)], 2)))
        first = first + mean_where(seen[:, :, 0], there)[:, None]
        places = places + seen[:, :, 1:].swapaxes(1, 2)
        x = jnp.concatenate([first, places.reshape(b, -1, d)], 1)
        y = activation(self.activation)(dense("grow", self.inner, norm("norm_output", x)))
        return tap("hidden", x + dropped("output", dense("shrink", d, y))), tap.outputs


def _nearest(old: int, new: int) -> Int[np.ndarray, " m"]:
    """Which of the old positions each new one takes, counted in float32 as PyTorch does."""
    where = np.arange(new, dtype=np.float32) * (np.float32(old) / np.float32(new))
    return np.minimum(where.astype(np.int32), old - 1)
