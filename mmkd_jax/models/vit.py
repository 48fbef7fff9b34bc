"""Vision Transformers of one stack, with switches: `(batch, modality, ctx, tap) -> features` [b, d].

ViT; DeiT has a second token that learned from a teacher; DINOv2 scales what its layers add, and its largest is gated;
CLIP's tower has a LayerNorm before the layers; SigLIP's has no class token, and pools by an attention; ViViT's patches
are those of a video, and have a length in time.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mmkd_jax.errors import UserError, choices
from mmkd_jax.modalities import unit
from mmkd_jax.models.activations import activation
from mmkd_jax.models.dropout import Dropout
from mmkd_jax.models.frames import frames_there
from mmkd_jax.models.inputs import visible
from mmkd_jax.models.pooling import mean_where
from mmkd_jax.models.transformer import Transformer, switches
from mmkd_jax.views import Batch, Context, Taps


class Vit(nn.Module):
    """A pre-norm Transformer encoder on patches of an image, or of a video.

    Formula: x₀ = [class, E patches] + positions; the layers of `models.transformer`; LN

    Images are uint8, or floats of 0 … 1; mean and standard deviation are taken here. Of another height or width than
    the model was trained on, positions are interpolated (bicubic). `video.mask` [b, t] says which frames there are: the
    others are black, and a patch that has none of the frames there are is not seen.

    Outputs besides those of the layers: `hidden.M.0`, the embedded patches; `tokens.M`, the last tokens after the
    LayerNorm; `pooled.M` = φ(W x[first]) with a pooler.

    Attributes:
        size: height and width of the images that the table of positions was made for, px; of videos their number of
            frames, height and width.
        patch: height and width of a patch, px; of a video's its frames, height and width.
        stride: from one patch to the next; what is left at the ends is in none. Patches lie side by side, if None.
        channels: of the images.
        width: of the tokens.
        layers: how many.
        heads: of each attention.
        inner: width between a layer's two dense layers.
        extra: tokens before the patches: none, the class's, or with 2 also that of DeiT's teacher.
        patch_bias: whether the patches' projection has one.
        embedded_norm: whether the embedded patches go through a LayerNorm (CLIP).
        pooler: whether there is one.
        pooled: its width; that of the tokens, if None.
        pooler_activation: φ.
        pool: what the features are: "first" token, "mean" of the patches, "pooler", "extra" without one: mean of the
            tokens before the patches (AST), or "probe": what a learned query finds, and a layer on it (SigLIP).
        mean: of each channel, in 0 … 1.
        std: standard deviation of each channel.
        activation: a name of `models.activations`.
        eps: of the LayerNorms.
        gated: whether a layer's dense layers have a gate.
        scaled: whether a layer scales what it adds.
        bias: whether queries, keys and values have one.
        dropout: rate on embedded patches and on what is added to a residual connection, in training.
        attention_dropout: rate on the attention's weights, in training.
        dtype: of the computation, such as jnp.bfloat16; the parameters' own, if None.
        remat: compute a layer's intermediates again for the backward pass.
        scan: compile one layer for all.

    Source: Dosovitskiy et al., An Image is Worth 16x16 Words, 2021, https://arxiv.org/abs/2010.11929; Touvron et al.,
        DeiT, 2021, https://arxiv.org/abs/2012.12877; Oquab et al., DINOv2, 2024, https://arxiv.org/abs/2304.07193;
        Arnab et al., ViViT, 2021, https://arxiv.org/abs/2103.15691
    """

    size: tuple[int, ...] = (224, 224)
    patch: tuple[int, ...] = (16, 16)
    stride: tuple[int, ...] | None = None
    channels: int = 3
    width: int = 768
    layers: int = 12
    heads: int = 12
    inner: int = 3072
    extra: int = 1
    patch_bias: bool = True
    embedded_norm: bool = False
    pooler: bool = False
    pooled: int | None = None
    pooler_activation: str = "tanh"
    pool: str = "first"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    activation: str = "gelu"
    eps: float = 1e-12
    gated: bool = False
    scaled: bool = False
    bias: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0
    dtype: Any = None
    remat: bool = False
    scan: bool = False

    @nn.nowrap
    def sample(self, modality: str) -> dict[str, Array]:
        """The smallest batch, for shapes."""
        return {modality: jnp.zeros((1, *self.size, self.channels), jnp.uint8)}

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: Context, tap: Taps) -> Float[Array, "b d"]:
        pools = ["mean", "probe"] + ["first"] * (self.extra > 0)
        pools += ["pooler"] if self.pooler else ["extra"] * (self.extra > 0)
        if self.pool not in pools:
            raise UserError(f"{modality}: pool is {self.pool!r}; this encoder has: {choices(pools)}")
        rows, mask = batch["example_id"], None
        if len(self.size) == 3:
            x, mask = frames_there(batch, modality)
        else:
            x = visible(batch, modality)[modality]
        x = normalised(unit(x), self.mean, self.std, modality, len(self.size))
        if x.shape[1:-3] != self.size[:-2]:
            raise UserError(f"{modality}: videos of {x.shape[1]} frames; this model takes {self.size[0]}: sample them")
        x = patches(x, self.patch, modality, self.stride)
        sides = zip(self.size, self.patch, self.stride or self.patch, strict=True)
        old, grid = tuple(_places(*side) for side in sides), x.shape[1:-1]
        shape = (*self.patch, self.channels, self.width)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        x = x.reshape(-1, x.shape[-1]) @ kernel.reshape(-1, self.width)
        if self.patch_bias:
            x = x + self.param("bias", nn.initializers.zeros, (self.width,)).astype(x.dtype)[None]
        table = self.param("positions", nn.initializers.normal(0.02), (self.extra + math.prod(old), self.width))
        where = interpolated(table[self.extra :], old[-2:], grid[-2:])
        x = x.reshape(len(rows), -1, self.width) + where[None].astype(x.dtype)
        here = None
        if mask is not None:
            times = (self.stride or self.patch)[0] * np.arange(grid[0])[:, None] + np.arange(self.patch[0])
            mask = jnp.repeat(mask[:, times].any(2), math.prod(grid[1:]), 1)
            here = jnp.pad(mask, ((0, 0), (self.extra, 0)), constant_values=True)
        if names := ("class", "distillation")[: self.extra]:
            first = jnp.stack([self.param(n, nn.initializers.zeros, (self.width,)) for n in names])
            first = (first + table[: self.extra]).astype(x.dtype)
            x = jnp.concatenate([jnp.broadcast_to(first, (len(rows), *first.shape)), x], 1)
        if self.embedded_norm:
            x = nn.LayerNorm(self.eps, dtype=self.dtype, name="norm_embedded")(x)
        x = tap(f"hidden.{modality}.0", Dropout(self.dropout, name="dropped")(x, ctx, rows))
        x = Transformer(**switches(self), pre_norm=True, name="transformer")(x, here, rows, modality, ctx, tap)
        x = tap(f"tokens.{modality}", nn.LayerNorm(self.eps, dtype=self.dtype, name="norm")(x))
        pooled = None
        if self.pooler:
            dense = nn.Dense(self.pooled or self.width, dtype=self.dtype, name="pooler")
            pooled = tap(f"pooled.{modality}", activation(self.pooler_activation)(dense(x[:, 0])))
        if self.pool == "probe":
            same = {f: getattr(self, f) for f in ("heads", "inner", "activation", "eps", "dtype")}
            return tap(f"pooled.{modality}", Probe(**same, name="probe")(x, here))
        if self.pool == "extra":
            return tap(f"pooled.{modality}", mean_where(x[:, : self.extra], None))
        if self.pool == "mean":
            return mean_where(x[:, self.extra :], mask)
        return x[:, 0] if pooled is None or self.pool == "first" else pooled


class Probe(nn.Module):
    """Attention pooling: a learned query looks at all tokens, and a residual layer at what it found.

    Formula: y = MHA(q, x, x); y + W₂ φ(W₁ LN(y))

    With a mask, the query sees those tokens only.

    Attributes:
        heads: of the attention.
        inner: width between the two dense layers.
        activation: φ, a name of `models.activations`.
        eps: of the LayerNorm.
        dtype: of the computation; the parameters' own, if None.

    Source: Zhai et al., Sigmoid Loss for Language Image Pre-Training, 2023, https://arxiv.org/abs/2303.15343
    """

    heads: int
    inner: int
    activation: str
    eps: float
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"], mask: Bool[Array, "b l"] | None) -> Float[Array, "b d"]:
        b, length, d = x.shape

        def dense(name, width, y):
            return nn.Dense(width, dtype=self.dtype, name=name)(y)

        probe = self.param("probe", nn.initializers.lecun_normal(), (1, d))
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (d, 3 * d))  # of query, key and value
        bias = self.param("bias", nn.initializers.zeros, (3 * d,))
        x, probe, kernel, bias = nn.dtypes.promote_dtype(x, probe, kernel, bias, dtype=self.dtype)
        q = (probe @ kernel[:, :d] + bias[None, :d]).reshape(self.heads, -1)
        both = x.reshape(b * length, d) @ kernel[:, d:] + bias[None, d:]
        k, v = jnp.split(both.reshape(b, length, 2 * self.heads, -1), 2, 2)
        score = jnp.einsum("nk,bsnk->bns", q, k) * (d // self.heads) ** -0.5
        if mask is not None:
            score = jnp.where(mask[:, None], score, jnp.finfo(score.dtype).min)
        weights = nn.softmax(score.astype(jnp.float32), -1).astype(score.dtype)
        y = dense("out", d, jnp.einsum("bns,bsnk->bnk", weights, v).reshape(b, d))
        seen = nn.LayerNorm(self.eps, dtype=self.dtype, name="norm")(y)
        return y + dense("shrink", d, activation(self.activation)(dense("grow", self.inner, seen)))


def normalised(
    x: Float[Array, "b ... c"], mean: tuple[float, ...], std: tuple[float, ...], modality: str, axes: int = 2
) -> Float[Array, "b ... c"]:
    """(x − mean) / std of each channel.

    Args:
        x: images [b, h, w, c], or with three axes videos [b, t, h, w, c].
        mean: of each channel.
        std: of each channel.
        modality: for messages.
        axes: between rows and channels.

    Raises:
        UserError: they have another number of channels, or of axes.
    """
    if x.ndim != axes + 2 or x.shape[-1] != len(mean):
        what, shape = ("images", "h, w") if axes == 2 else ("videos", "t, h, w")
        raise UserError(f"{modality}: {what} of shape {list(x.shape)}; expected [b, {shape}, {len(mean)}]")
    shift, scale = (jnp.asarray(c, x.dtype).reshape((1,) * (axes + 1) + (-1,)) for c in (mean, std))
    return (x - shift) / scale


def patches(
    x: Float[Array, "b ... c"], size: tuple[int, ...], modality: str, stride: tuple[int, ...] | None = None
) -> Float[Array, "b ... d"]:
    """Each patch as one vector, in the order of a convolution's kernel.

    Args:
        x: images, or videos.
        size: of a patch, on each axis.
        modality: for messages.
        stride: from one to the next, on each axis; what is left at the ends is in none. Side by side, if None.

    Raises:
        UserError: without a stride, the images or videos do not divide into patches.

    Example:
        >>> patches(jnp.zeros((1, 4, 6, 9, 3)), (2, 3, 3), "video").shape
        (1, 2, 2, 3, 54)
    """
    if stride is None and any(n % p for n, p in zip(x.shape[1:-1], size, strict=True)):
        given, asked = (" × ".join(map(str, sides)) for sides in (x.shape[-3:-1], size))
        what = f"videos of {x.shape[1]} frames of" if len(size) == 3 else "images of"
        raise UserError(f"{modality}: {what} {given} px do not divide into patches of {asked}")
    axes = len(size)
    for axis, p, s in zip(range(1, 2 * axes, 2), size, stride or size, strict=True):
        n = _places(x.shape[axis], p, s)
        if s == p:  # views, where overlapping ones are copies
            x = jax.lax.slice_in_dim(x, 0, n * p, axis=axis)
            x = x.reshape(*x.shape[:axis], n, p, *x.shape[axis + 1 :])
        else:
            x = jnp.take(x, s * np.arange(n)[:, None] + np.arange(p), axis)
    x = x.transpose(0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1)
    return x.reshape(*x.shape[: axes + 1], -1)


def _places(length: int, size: int, stride: int) -> int:
    """How many stretches of that size fit."""
    return (length - size) // stride + 1


def interpolated(
    table: Float[Array | np.ndarray, "n d"], old: tuple[int, ...], new: tuple[int, ...]
) -> Float[Array | np.ndarray, "m d"]:
    """Positions of another grid, by bicubic interpolation as PyTorch does it (A = −.75, no antialiasing).

    Args:
        table: positions of the old grid, row by row; of several grids, one behind the other.
        old: rows and columns of the grid that the table is for.
        new: rows and columns that are wanted; the same gives the table itself.
    """
    if old == new:
        return table
    down, across = (jnp.asarray(_cubic(o, n), table.dtype) for o, n in zip(old, new, strict=True))
    grids = table.reshape(-1, *old, table.shape[-1])
    return jnp.einsum("io,jp,kopd->kijd", down, across, grids).reshape(-1, table.shape[-1])


def _cubic(old: int, new: int) -> np.ndarray:
    """Weights [new, old]: centres of pixels are aligned, and what lies outside is the pixel at the border."""
    where = (np.arange(new) + 0.5) * old / new - 0.5
    low, weights, a = np.floor(where).astype(int), np.zeros((new, old)), -0.75
    for offset in range(-1, 3):
        t = np.abs(where - (low + offset))
        near = ((a + 2) * t - (a + 3)) * t**2 + 1
        far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
        np.add.at(weights, (np.arange(new), np.clip(low + offset, 0, old - 1)), np.where(t <= 1, near, far))
    return weights
