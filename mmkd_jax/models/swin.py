"""Swin Transformer: `(batch, modality, ctx, tap) -> features` [b, d]."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.modalities import unit
from mmkd_jax.core.model import Batch, StepContext, Taps
from mmkd_jax.errors import UserError
from mmkd_jax.models._inputs import masked_input
from mmkd_jax.models.vit import interpolated, normalized, patches
from mmkd_jax.nn.dropout import Dropout
from mmkd_jax.nn.pooling import masked_mean
from mmkd_jax.nn.transformer import Transformer, TransformerConfig
from mmkd_jax.nn.windows import WindowLayer


class Swin(nn.Module):
    """Swin Transformer: stages of Transformer layers with attention in windows, which are shifted in every other layer.

    Formula: x₀ = LN(E patches); the layers of `nn.windows`; after each stage but the last, x ← W LN([the four tokens of
        each square]), with half as many rows and columns and twice as many channels; LN

    Images are uint8, or floats in 0 … 1; the model normalizes them by mean and standard deviation. Sides that patches
    or squares do not divide are filled with zeros. A stage that is as small as a window has no shifts.

    Outputs, in addition to those of the layers, which are numbered over all stages: `hidden.M.0`, the embedded patches;
    `merged.M.i`, the tokens after stage i, merged; `tokens.M`, the last tokens after the LayerNorm; `pooled.M`, the
    features, which are their mean.

    Attributes:
        size: height and width of the images, px; others are possible.
        patch: height and width of a patch, px.
        channels: number of image channels.
        embed_dim: dimension of the tokens of the first stage, doubled in each following one.
        depths: number of layers of each stage.
        heads: number of attention heads of each stage.
        window: side of a window, in tokens.
        mlp_ratio: hidden dimension of the MLPs, as a multiple of the dimension of the tokens.
        positions: add position embeddings to the patches, interpolated (bicubic) for another size.
        activation: activation function of the MLPs; a name in `nn.activations`.
        eps: epsilon of the LayerNorms, except those of the patches and of the merged tokens, which have 1e-5.
        bias: add a bias to queries, keys and values.
        dropout: dropout rate of the embedded tokens and of each residual branch.
        attention_dropout: dropout rate of the attention weights.
        mean: per-channel mean that images are normalized by, in 0 … 1.
        std: per-channel standard deviation.
        dtype: computation dtype, such as jnp.bfloat16; None is the dtype of the parameters.
        remat: recompute each layer's intermediates in the backward pass.
        scan: compile one layer of each stage and scan over all.

    Source: Liu et al., Swin Transformer, 2021, https://arxiv.org/abs/2103.14030
    """

    size: tuple[int, ...] = (224, 224)
    patch: tuple[int, ...] = (4, 4)
    channels: int = 3
    embed_dim: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: int = 7
    mlp_ratio: float = 4.0
    positions: bool = False
    activation: str = "gelu"
    eps: float = 1e-5
    bias: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    dtype: Any = None
    remat: bool = False
    scan: bool = False

    @nn.nowrap
    def sample(self, modality: str) -> dict[str, Array]:
        """Return the smallest valid batch, for shape inference."""
        return {modality: jnp.zeros((1, *self.size, self.channels), jnp.uint8)}

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: StepContext, tap: Taps) -> Float[Array, "b d"]:
        rows, dim = batch["example_id"], self.embed_dim
        x = normalized(unit(masked_input(batch, modality)[modality]), self.mean, self.std, modality)
        x = patches(_filled(x, self.patch), self.patch, modality)
        grid = x.shape[1:-1]
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (*self.patch, self.channels, dim))
        bias = self.param("bias", nn.initializers.zeros, (dim,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        x = x.reshape(-1, x.shape[-1]) @ kernel.reshape(-1, dim) + bias[None]
        x = self._norm("norm_embedded", x).reshape(rows.shape[0], -1, dim)
        if self.positions:
            old = tuple(n // p for n, p in zip(self.size, self.patch, strict=True))
            table = self.param("positions", nn.initializers.normal(0.02), (old[0] * old[1], dim))
            x = x + interpolated(table, old, grid)[None].astype(x.dtype)
        x, count = tap(f"hidden.{modality}.0", Dropout(self.dropout, name="dropped")(x, ctx, rows)), 0
        for i, (depth, heads) in enumerate(zip(self.depths, self.heads, strict=True)):
            if min(grid) < self.window:
                actual, side = (" × ".join(map(str, sides)) for sides in (grid, (self.window,) * 2))
                small = f"stage {i} has {actual} tokens, fewer than a window of {side}"
                raise UserError(f"{modality}: images of {list(batch[modality].shape)}: {small}: use larger images")
            layer = partial(WindowLayer, pre_norm=True, grid=grid, window=self.window)
            shift = self.window // 2 if min(grid) > self.window else 0
            stack = Transformer(self._config(dim, depth, heads), layer, start=count, name=f"stage_{i}")
            x = stack(x, None, rows, modality, ctx, tap, lambda j, shift=shift: (shift * (j % 2),))
            count += depth
            if i < len(self.depths) - 1:
                y = _filled(x.reshape(rows.shape[0], *grid, dim), (2, 2))
                y = jnp.concatenate([y[:, j::2, k::2] for k in range(2) for j in range(2)], -1)
                grid, dim = y.shape[1:-1], 2 * dim
                y = self._norm(f"norm_{i}", y.reshape(-1, 2 * dim))
                y = nn.Dense(dim, use_bias=False, dtype=self.dtype, name=f"merge_{i}")(y)
                x = tap(f"merged.{modality}.{i}", y.reshape(rows.shape[0], -1, dim))
        x = tap(f"tokens.{modality}", self._norm("norm", x, self.eps))
        return tap(f"pooled.{modality}", masked_mean(x, None))

    @nn.nowrap
    def _norm(self, name, x, eps=1e-5):
        return nn.LayerNorm(eps, dtype=self.dtype, name=name)(x)

    @nn.nowrap
    def _config(self, dim, depth, heads):
        """Sizes and options of a stage."""
        return TransformerConfig(
            embed_dim=dim,
            num_layers=depth,
            num_heads=heads,
            mlp_dim=int(self.mlp_ratio * dim),
            activation=self.activation,
            eps=self.eps,
            bias=self.bias,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            dtype=self.dtype,
            remat=self.remat,
            scan=self.scan,
        )


def _filled(x, size):
    """The image with zeros below and on the right, so that the sizes divide its sides."""
    pads = [(0, -n % s) for n, s in zip(x.shape[1:3], size, strict=True)]
    return jnp.pad(x, ((0, 0), *pads, (0, 0)))
