"""TimeSformer video encoder: `(batch, modality, ctx, tap) -> features` [b, d]."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mmkd_jax.core.modalities import unit
from mmkd_jax.core.model import Batch, StepContext, Taps
from mmkd_jax.errors import UserError, choices
from mmkd_jax.models.frames import each_frame, masked_frames
from mmkd_jax.models.vit import normalized, patches
from mmkd_jax.nn.dropout import Dropout
from mmkd_jax.nn.pooling import masked_mean
from mmkd_jax.nn.transformer import Layer, Transformer, TransformerConfig

DIVIDED, SPACE, JOINT = ATTENTIONS = ("divided_space_time", "space_only", "joint_space_time")


class Timesformer(nn.Module):
    """TimeSformer: a pre-norm Transformer encoder on video patches, with attention over time and space.

    Formula: x₀ = [class + p₀, E patches + spatial positions + temporal positions]; layers; LN

    Videos are uint8, or floats in 0 … 1; the model normalizes them by mean and standard deviation. For another frame
    size or number of frames than in training, the nearest spatial and temporal position embeddings are used.
    `video.mask` [b, t] marks the valid frames; the others are neither attended to nor pooled.

    Outputs, in addition to those of the layers: `hidden.M.0`, the embedded patches [b, l, d], ordered as the class
    token, the first position in all frames, the second position in all frames, …; `tokens.M`, the last tokens after the
    LayerNorm; with a mask of frames, `tokens_mask.M`, the mask of the tokens. With spatial attention only, each frame
    has its own class token, the second axis of every output is frames, [b, t, l, d], and `frames_mask.M` [b, t] is the
    mask.

    Attributes:
        size: height and width of the frames that the spatial position embeddings are for, px.
        patch: height and width of a patch, px.
        frames: number of temporal position embeddings.
        channels: number of image channels.
        config: sizes and options of the layers.
        attention: "divided_space_time": over time, then over space (`Divided`); "joint_space_time": over all tokens;
            "space_only": within each frame, with the mean over frames as features.
        pool: features: the "first" token, or the "mean" over the patches.
        mean: per-channel mean that images are normalized by, in 0 … 1.
        std: per-channel standard deviation.

    Source: Bertasius et al., Is Space-Time Attention All You Need for Video Understanding?, 2021,
        https://arxiv.org/abs/2102.05095
    """

    size: tuple[int, ...] = (224, 224)
    patch: tuple[int, ...] = (16, 16)
    frames: int = 8
    channels: int = 3
    config: TransformerConfig = TransformerConfig(embed_dim=768, num_layers=12, num_heads=12, mlp_dim=3072, eps=1e-6)
    attention: str = DIVIDED
    pool: str = "first"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    @nn.nowrap
    def sample(self, modality: str) -> dict[str, Array]:
        """Return the smallest valid batch, for shape inference."""
        return {modality: jnp.zeros((1, self.frames, *self.size, self.channels), jnp.uint8)}

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: StepContext, tap: Taps) -> Float[Array, "b d"]:
        for name, value, known in (("attention", self.attention, ATTENTIONS), ("pool", self.pool, ("first", "mean"))):
            if value not in known:
                raise UserError(f"{modality}: {name} is {value!r}; expected one of: {choices(known)}")
        config, dim, rows = self.config, self.config.embed_dim, batch["example_id"]
        x, mask = masked_frames(batch, modality)
        x = normalized(unit(x), self.mean, self.std, modality, 3)
        b, t = x.shape[:2]
        x = patches(x.reshape(b * t, *x.shape[2:]), self.patch, modality)
        old, grid = tuple(n // p for n, p in zip(self.size, self.patch, strict=True)), x.shape[1:3]
        shape = (*self.patch, self.channels, dim)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (dim,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=config.dtype)
        x = x.reshape(-1, x.shape[-1]) @ kernel.reshape(-1, dim) + bias[None]
        table = self.param("positions", nn.initializers.normal(0.02), (1 + old[0] * old[1], dim))
        first = self.param("class", nn.initializers.zeros, (dim,)) + table[0]
        i, j = (_nearest(o, n) for o, n in zip(old, grid, strict=True))
        positions = table[1:].reshape(*old, dim)[i][:, j].reshape(1, 1, -1, dim)
        if self.attention != SPACE:
            time = self.param("times", nn.initializers.zeros, (self.frames, dim))[_nearest(self.frames, t)]
            positions = positions + time[None, :, None]
        x = x.reshape(b, t, -1, dim) + positions.astype(x.dtype)
        if self.attention != SPACE:
            x = x.swapaxes(1, 2).reshape(b, -1, dim)
        first = jnp.broadcast_to(first.astype(x.dtype), (*x.shape[:-2], 1, dim))
        x = Dropout(config.dropout, name="dropped")(jnp.concatenate([first, x], -2), ctx, rows)

        valid = None  # mask of tokens: the class token and those of valid frames
        if mask is not None and self.attention == SPACE:
            mask = tap(f"frames_mask.{modality}", mask)
        elif mask is not None:
            valid = jnp.pad(jnp.tile(mask, (1, grid[0] * grid[1])), ((0, 0), (1, 0)), constant_values=True)
            valid = tap(f"tokens_mask.{modality}", valid)

        def encode(x, rows, ctx, tap):
            divided = self.attention == DIVIDED
            layer = partial(Divided, frames=t) if divided else partial(Layer, pre_norm=True)
            stack = Transformer(config, layer, name="transformer")
            x = stack(tap(f"hidden.{modality}.0", x), valid, rows, modality, ctx, tap)
            return tap(f"tokens.{modality}", nn.LayerNorm(config.eps, dtype=config.dtype, name="norm")(x))

        if self.attention != SPACE:
            x = encode(x, rows, ctx, tap)
            return x[:, 0] if self.pool == "first" else masked_mean(x[:, 1:], None if valid is None else valid[:, 1:])
        x = each_frame(encode, x, rows, ctx, tap, mask)
        x = x[:, :, :1] if self.pool == "first" else x[:, :, 1:]
        return masked_mean(x.reshape(b, -1, dim), None if mask is None else jnp.repeat(mask, x.shape[2], 1))


class Divided(Layer):
    """Divided space-time attention layer: attention over time, attention over space, and an MLP; always pre-norm.

    Formula: x ← x + W MHA_time(LN(x)); x ← x + MHA_space(LN(x)); x ← x + W₂ φ(W₁ LN(x))

    The class token is excluded from temporal attention. Spatial attention updates it once per frame, and the mean over
    the valid frames is added. Outputs, in addition to those of `Layer`, which describe spatial attention and have
    frames as the second axis: `time_queries.M.i`, `time_keys.M.i`, `time_values.M.i` [b, positions, t, d],
    `time_scores.M.i` and `time_attentions.M.i` [b, positions, heads, t, t].

    Attributes:
        frames: number of frames t.
    """

    frames: int = 1

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        mask: Bool[Array, "b l"] | None,
        rows: Int[Array | np.ndarray, " b"],
        ctx: StepContext,
        patch: dict[str, Any],
    ) -> tuple[Float[Array, "b l d"], dict[str, Any]]:
        b, _, d = x.shape
        valid = None if mask is None else mask[:, 1 : 1 + self.frames]  # frames; the same at every position
        tap = Taps(patch)
        first, places = x[:, :1], x[:, 1:].reshape(b, -1, self.frames, d)
        attendable = None if valid is None else valid[:, None, None, None]
        update = self.attention(self.norm("norm_time", places), places.shape, attendable, rows, ctx, tap, "time_")
        places = places + self.dense("time_dense", d, update)
        each = jnp.broadcast_to(first[:, None], (b, self.frames, 1, d))
        both = jnp.concatenate([each, places.swapaxes(1, 2)], 2)
        update = self.attention(self.norm("norm_attention", both), both.shape, None, rows, ctx, tap)
        first = first + masked_mean(update[:, :, 0], valid)[:, None]
        places = places + update[:, :, 1:].swapaxes(1, 2)
        x = jnp.concatenate([first, places.reshape(b, -1, d)], 1)
        x = x + self.branch("output", self.mlp(self.norm("norm_output", x)), x.shape, rows, ctx)
        return tap("hidden", x), tap.outputs


def _nearest(old: int, new: int) -> Int[np.ndarray, " m"]:
    """Index of the old position nearest to each new one, computed in float32 as in PyTorch."""
    index = np.arange(new, dtype=np.float32) * (np.float32(old) / np.float32(new))
    return np.minimum(index.astype(np.int32), old - 1)
