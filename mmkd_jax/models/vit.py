"""Vision Transformer family on one configurable stack: `(batch, modality, ctx, tap) -> features` [b, d].

ViT; DeiT adds a distillation token; DINOv2 has LayerScale, a gated MLP in its largest model, and optional registers;
CLIP's image encoder has a LayerNorm before the layers; SigLIP's has attention pooling and no class token; ViViT has
patches of a video.
"""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mmkd_jax.core.modalities import unit
from mmkd_jax.core.model import Batch, StepContext, Taps
from mmkd_jax.errors import UserError, choices
from mmkd_jax.models._inputs import masked_input
from mmkd_jax.models.frames import masked_frames
from mmkd_jax.nn.activations import activation
from mmkd_jax.nn.dropout import Dropout
from mmkd_jax.nn.pooling import masked_mean
from mmkd_jax.nn.transformer import Layer, Transformer, TransformerConfig


class Vit(nn.Module):
    """Vision Transformer (ViT): a pre-norm Transformer encoder on patches of an image or a video.

    Formula: x₀ = [class, E patches] + positions; the layers of `nn.transformer`; LN

    Images are uint8, or floats in 0 … 1; the model normalizes them by mean and standard deviation. At the size of
    training, pixels that are left over at the edges are ignored. For another height or width, which the patches must
    divide, position embeddings are interpolated (bicubic). `video.mask` [b, t] marks the valid frames; the others are
    black, and a patch without valid frames is masked.

    Outputs, in addition to those of the layers: `hidden.M.0`, the embedded patches; `tokens.M`, the last tokens after
    the LayerNorm; `pooled.M` = φ(W x[first]) with a pooler; `tokens_mask.M`, with a mask of frames or with prompts:
    False for their tokens.

    Prompts are learned vectors without positions that every token attends to. Their tokens are the last ones of each
    output; features are those of the image alone.

    Attributes:
        size: height and width of the images that the position embeddings are for, px; for videos the number of frames,
            height and width.
        patch: height and width of a patch, px; for videos the number of frames, height and width.
        stride: stride between patches; pixels left over at the edges are ignored. None is non-overlapping patches.
        channels: number of image channels.
        config: sizes and options of the layers; the default is that of ViT-B/16.
        num_prefix_tokens: number of tokens before the patches: 0, 1 (class token), or 2 (class token and DeiT's
            distillation token).
        registers: number of register tokens between these and the patches. They have no positions. A model with
            registers interpolates positions with antialiasing, as in its training.
        patch_bias: add a bias to the patch projection.
        embedded_norm: apply a LayerNorm to the embedded patches (CLIP).
        pooler: add a pooler.
        pooled: width of the pooler; None is the width of the tokens.
        pooler_activation: φ, a name in `nn.activations`.
        pool: features: the "first" token; the "mean" over the patches; the output of the "pooler"; without a pooler,
            "prefix", the mean of the tokens before the patches (AST); or "probe", attention pooling with a learned
            query (SigLIP).
        mean: per-channel mean that images are normalized by, in 0 … 1.
        std: per-channel standard deviation.
        prompts: number of prompts (visual prompt tuning, shallow: before the first layer).

    Source: Dosovitskiy et al., An Image is Worth 16x16 Words, 2021, https://arxiv.org/abs/2010.11929; Touvron et al.,
        DeiT, 2021, https://arxiv.org/abs/2012.12877; Oquab et al., DINOv2, 2024, https://arxiv.org/abs/2304.07193;
        Darcet et al., Vision Transformers Need Registers, 2024, https://arxiv.org/abs/2309.16588;
        Arnab et al., ViViT, 2021, https://arxiv.org/abs/2103.15691; Jia et al., Visual Prompt Tuning, 2022,
        https://arxiv.org/abs/2203.12119
    """

    size: tuple[int, ...] = (224, 224)
    patch: tuple[int, ...] = (16, 16)
    stride: tuple[int, ...] | None = None
    channels: int = 3
    config: TransformerConfig = TransformerConfig(embed_dim=768, num_layers=12, num_heads=12, mlp_dim=3072)
    num_prefix_tokens: int = 1
    registers: int = 0
    patch_bias: bool = True
    embedded_norm: bool = False
    pooler: bool = False
    pooled: int | None = None
    pooler_activation: str = "tanh"
    pool: str = "first"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    prompts: int = 0

    @nn.nowrap
    def sample(self, modality: str) -> dict[str, Array]:
        """Return the smallest valid batch, for shape inference."""
        return {modality: jnp.zeros((1, *self.size, self.channels), jnp.uint8)}

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: StepContext, tap: Taps) -> Float[Array, "b d"]:
        config, dim, prefix = self.config, self.config.embed_dim, self.num_prefix_tokens
        pools = ["mean", "probe"] + ["first"] * (prefix > 0)
        pools += ["pooler"] if self.pooler else ["prefix"] * (prefix > 0)
        if self.pool not in pools:
            raise UserError(f"{modality}: pool is {self.pool!r}; expected one of: {choices(pools)}")
        rows, mask = batch["example_id"], None
        if len(self.size) == 3:
            x, mask = masked_frames(batch, modality)
        else:
            x = masked_input(batch, modality)[modality]
        x = normalized(unit(x), self.mean, self.std, modality, len(self.size))
        if x.shape[1:-3] != self.size[:-2]:
            raise UserError(f"{modality}: videos of {x.shape[1]} frames; this model takes {self.size[0]}: sample them")
        native = x.shape[1:-1] == self.size
        x = patches(x, self.patch, modality, self.patch if native and self.stride is None else self.stride)
        sides = zip(self.size, self.patch, self.stride or self.patch, strict=True)
        old, grid = tuple(_places(*side) for side in sides), x.shape[1:-1]
        shape = (*self.patch, self.channels, dim)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=config.dtype)
        x = x.reshape(-1, x.shape[-1]) @ kernel.reshape(-1, dim)
        if self.patch_bias:
            x = x + self.param("bias", nn.initializers.zeros, (dim,)).astype(x.dtype)[None]
        table = self.param("positions", nn.initializers.normal(0.02), (prefix + math.prod(old), dim))
        positions = interpolated(table[prefix:], old[-2:], grid[-2:], antialias=self.registers > 0)
        x = x.reshape(rows.shape[0], -1, dim) + positions[None].astype(x.dtype)
        valid = None
        if mask is not None:
            times = (self.stride or self.patch)[0] * np.arange(grid[0])[:, None] + np.arange(self.patch[0])
            mask = jnp.repeat(mask[:, times].any(2), math.prod(grid[1:]), 1)
            valid = jnp.pad(mask, ((0, 0), (prefix + self.registers, 0)), constant_values=True)
        if self.registers:
            registers = self.param("registers", nn.initializers.normal(0.02), (self.registers, dim)).astype(x.dtype)
            x = jnp.concatenate([jnp.broadcast_to(registers, (rows.shape[0], *registers.shape)), x], 1)
        if names := ("class", "distillation")[:prefix]:
            first = jnp.stack([self.param(n, nn.initializers.zeros, (dim,)) for n in names])
            first = (first + table[:prefix]).astype(x.dtype)
            x = jnp.concatenate([jnp.broadcast_to(first, (rows.shape[0], *first.shape)), x], 1)
        length = x.shape[1]
        if self.prompts:  # behind the patches: places have no meaning after the positions
            prompts = self.param("prompts", nn.initializers.normal(0.02), (self.prompts, dim)).astype(x.dtype)
            x = jnp.concatenate([x, jnp.broadcast_to(prompts, (rows.shape[0], *prompts.shape))], 1)
            own = jnp.ones((rows.shape[0], length), bool) if valid is None else valid
            tap(f"tokens_mask.{modality}", jnp.pad(own, ((0, 0), (0, self.prompts))))
            valid = None if valid is None else jnp.pad(valid, ((0, 0), (0, self.prompts)), constant_values=True)
        elif valid is not None:
            valid = tap(f"tokens_mask.{modality}", valid)
        if self.embedded_norm:
            x = nn.LayerNorm(config.eps, dtype=config.dtype, name="norm_embedded")(x)
        x = tap(f"hidden.{modality}.0", Dropout(config.dropout, name="dropped")(x, ctx, rows))
        stack = Transformer(config, partial(Layer, pre_norm=True), name="transformer")
        x = stack(x, valid, rows, modality, ctx, tap)
        x = tap(f"tokens.{modality}", nn.LayerNorm(config.eps, dtype=config.dtype, name="norm")(x))
        x, valid = x[:, :length], None if valid is None else valid[:, :length]
        pooled = None
        if self.pooler:
            dense = nn.Dense(self.pooled or dim, dtype=config.dtype, name="pooler")
            pooled = tap(f"pooled.{modality}", activation(self.pooler_activation)(dense(x[:, 0])))
        if self.pool == "probe":
            return tap(f"pooled.{modality}", Probe(config, name="probe")(x, valid))
        if self.pool == "prefix":
            return tap(f"pooled.{modality}", masked_mean(x[:, :prefix], None))
        if self.pool == "mean":
            return masked_mean(x[:, prefix + self.registers :], mask)
        return x[:, 0] if pooled is None or self.pool == "first" else pooled


class Probe(nn.Module):
    """Multihead attention pooling (MAP): a learned query attends to all tokens, followed by a residual MLP.

    Formula: y = MHA(q, x, x); y + W₂ φ(W₁ LN(y))

    With a mask, the query attends to the unmasked tokens only.

    Attributes:
        config: sizes and options of the encoder's layers; the MLP has neither gate nor LayerScale.

    Source: Zhai et al., Sigmoid Loss for Language Image Pre-Training, 2023, https://arxiv.org/abs/2303.15343
    """

    config: TransformerConfig

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"], mask: Bool[Array, "b l"] | None) -> Float[Array, "b d"]:
        (b, length, d), config = x.shape, self.config

        def dense(name, features, y):
            return nn.Dense(features, dtype=config.dtype, name=name)(y)

        probe = self.param("probe", nn.initializers.lecun_normal(), (1, d))
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (d, 3 * d))  # of query, key and value
        bias = self.param("bias", nn.initializers.zeros, (3 * d,))
        x, probe, kernel, bias = nn.dtypes.promote_dtype(x, probe, kernel, bias, dtype=config.dtype)
        q = (probe @ kernel[:, :d] + bias[None, :d]).reshape(config.num_heads, -1)
        both = x.reshape(b * length, d) @ kernel[:, d:] + bias[None, d:]
        k, v = jnp.split(both.reshape(b, length, 2 * config.num_heads, -1), 2, 2)
        score = jnp.einsum("nk,bsnk->bns", q, k) * (d // config.num_heads) ** -0.5
        if mask is not None:
            score = jnp.where(mask[:, None], score, jnp.finfo(score.dtype).min)
        weights = nn.softmax(score.astype(jnp.float32), -1).astype(score.dtype)
        y = dense("out", d, jnp.einsum("bns,bsnk->bnk", weights, v).reshape(b, d))
        normed = nn.LayerNorm(config.eps, dtype=config.dtype, name="norm")(y)
        return y + dense("shrink", d, activation(config.activation)(dense("grow", config.mlp_dim, normed)))


def normalized(
    x: Float[Array, "b ... c"], mean: tuple[float, ...], std: tuple[float, ...], modality: str, axes: int = 2
) -> Float[Array, "b ... c"]:
    """Normalize each channel: (x − mean) / std.

    Args:
        x: images [b, h, w, c], or with axes=3 videos [b, t, h, w, c].
        mean: per-channel mean.
        std: per-channel standard deviation.
        modality: name of the modality, for error messages.
        axes: number of axes between batch and channels.

    Raises:
        UserError: x has another number of channels or axes.
    """
    if x.ndim != axes + 2 or x.shape[-1] != len(mean):
        what, shape = ("images", "h, w") if axes == 2 else ("videos", "t, h, w")
        channels = f"{len(mean)}], one channel for each value of mean and std"
        raise UserError(f"{modality}: {what} of shape {list(x.shape)}; expected [b, {shape}, {channels}")
    shift, scale = (jnp.asarray(c, x.dtype).reshape((1,) * (axes + 1) + (-1,)) for c in (mean, std))
    return (x - shift) / scale


def patches(
    x: Float[Array, "b ... c"], size: tuple[int, ...], modality: str, stride: tuple[int, ...] | None = None
) -> Float[Array, "b ... d"]:
    """Flatten each patch to a vector, in the order of a convolution kernel.

    Args:
        x: images or videos.
        size: patch size on each axis.
        modality: name of the modality, for error messages.
        stride: stride on each axis; pixels left over at the edges are ignored. None is non-overlapping patches.

    Raises:
        UserError: stride is None and the images or videos do not divide into patches.

    Example:
        >>> patches(jnp.zeros((1, 4, 6, 9, 3)), (2, 3, 3), "video").shape
        (1, 2, 2, 3, 54)
    """
    if stride is None and any(n % p for n, p in zip(x.shape[1:-1], size, strict=True)):
        actual, patch = (" × ".join(map(str, sides)) for sides in (x.shape[-3:-1], size))
        what = f"videos of {x.shape[1]} frames of" if len(size) == 3 else "images of"
        raise UserError(f"{modality}: {what} {actual} px do not divide into patches of {patch}")
    axes = len(size)
    for axis, p, s in zip(range(1, 2 * axes, 2), size, stride or size, strict=True):
        n = _places(x.shape[axis], p, s)
        if s == p:  # a reshape; overlapping patches need copies
            x = jax.lax.slice_in_dim(x, 0, n * p, axis=axis)
            x = x.reshape(*x.shape[:axis], n, p, *x.shape[axis + 1 :])
        else:
            x = jnp.take(x, s * np.arange(n)[:, None] + np.arange(p), axis)
    x = x.transpose(0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1)
    return x.reshape(*x.shape[: axes + 1], -1)


def _places(length: int, size: int, stride: int) -> int:
    """Number of windows that fit."""
    return (length - size) // stride + 1


def interpolated(
    table: Float[Array | np.ndarray, "n d"], old: tuple[int, ...], new: tuple[int, ...], antialias: bool = False
) -> Float[Array | np.ndarray, "m d"]:
    """Interpolate position embeddings to another grid, bicubic as in PyTorch.

    Args:
        table: position embeddings of the old grid in row-major order; several grids are concatenated.
        old: rows and columns of the old grid.
        new: rows and columns of the new grid; if equal to `old`, the table is returned unchanged.
        antialias: widen the kernel for a smaller grid.
    """
    if old == new:
        return table
    weights = _antialiased if antialias else _cubic
    down, across = (jnp.asarray(weights(o, n), table.dtype) for o, n in zip(old, new, strict=True))
    grids = table.reshape(-1, *old, table.shape[-1])
    return jnp.einsum("io,jp,kopd->kijd", down, across, grids).reshape(-1, table.shape[-1])


def _cubic(old: int, new: int) -> np.ndarray:
    """Interpolation weights [new, old], with pixel centers aligned and borders replicated."""
    center = (np.arange(new) + 0.5) * old / new - 0.5
    low, weights = np.floor(center).astype(int), np.zeros((new, old))
    for offset in range(-1, 3):
        values = _kernel(np.abs(center - (low + offset)), -0.75)
        np.add.at(weights, (np.arange(new), np.clip(low + offset, 0, old - 1)), values)
    return weights


def _antialiased(old: int, new: int) -> np.ndarray:
    """Interpolation weights [new, old], with a kernel as wide as the new pixels and renormalized at the borders."""
    center = (np.arange(new)[:, None] + 0.5) * old / new
    weights = _kernel(np.abs(np.arange(old) + 0.5 - center) / max(old / new, 1), -0.5)
    return weights / weights.sum(1, keepdims=True)


def _kernel(t: np.ndarray, a: float) -> np.ndarray:
    """Cubic convolution kernel at distance t; a is its slope at 1."""
    near = ((a + 2) * t - (a + 3)) * t**2 + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0))
