"""wav2vec 2.0 and HuBERT audio encoder on raw waveforms: `(batch, modality, ctx, tap) -> features` [b, d]."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mmkd_jax.core.model import Batch, StepContext, Taps
from mmkd_jax.errors import UserError
from mmkd_jax.models._inputs import masked_input
from mmkd_jax.nn.activations import activation
from mmkd_jax.nn.conv import Conv
from mmkd_jax.nn.dropout import Dropout
from mmkd_jax.nn.pooling import masked_mean
from mmkd_jax.nn.transformer import Layer, Transformer, TransformerConfig


class Wav2Vec2(nn.Module):
    """wav2vec 2.0 / HuBERT: strided convolutions on a waveform, then a Transformer with convolutional positions.

    Formula: c = φ(norm(K ∗ c)) for each convolution; x = W LN(c); x₀ = LN(x + φ(P ∗ x)); the layers of
        `nn.transformer`; with `pre_norm`, x₀ = x + φ(P ∗ x) and the LayerNorm follows the layers

    The waveform [b, n] has zero mean and unit variance. `audio.mask` [b, n] (true, then false) marks padding. Padding
    does not change the result: each row has the frames of the unpadded recording, even if `norm` is "channel", whose
    statistics are over time.

    Outputs, in addition to those of the layers: `frames.M.i`, the output of convolution i; `hidden.M.0`, the input of
    the first layer; `tokens.M`, the last frames after the last LayerNorm; `tokens_mask.M`, their mask.

    Attributes:
        convolutions: number of channels of each convolution.
        kernels: kernel size of each convolution.
        strides: stride of each convolution.
        conv_bias: add a bias to the convolutions.
        norm: "channel" normalizes the channels of the first convolution over time; "layer" normalizes each frame after
            every convolution.
        conv_activation: φ, a name in `nn.activations`.
        projected_norm: apply a LayerNorm before W.
        reach: kernel size of the positional convolution, frames.
        groups: number of groups of the positional convolution.
        config: sizes and options of the layers; `eps` does not apply to the LayerNorms of the convolutions.
        pre_norm: apply the LayerNorms before attention and MLP ("stable").
        feature_dropout: dropout rate of the projected frames.

    Source: Baevski et al., wav2vec 2.0, 2020, https://arxiv.org/abs/2006.11477; Hsu et al., HuBERT, 2021,
        https://arxiv.org/abs/2106.07447
    """

    convolutions: tuple[int, ...] = (512,) * 7
    kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    norm: str = "channel"
    conv_activation: str = "gelu"
    projected_norm: bool = True
    reach: int = 128
    groups: int = 16
    config: TransformerConfig = TransformerConfig(embed_dim=768, num_layers=12, num_heads=12, mlp_dim=3072, eps=1e-5)
    pre_norm: bool = False
    feature_dropout: float = 0.0

    @nn.nowrap
    def sample(self, modality: str) -> dict[str, Array]:
        """Return the smallest valid batch, for shape inference."""
        least = 1
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            least = (least - 1) * stride + kernel
        return {modality: jnp.zeros((1, least), jnp.float32)}

    @nn.nowrap
    def frames(self, mask: Bool[Array | np.ndarray, "b n"], convolutions: int | None = None) -> Bool[Array, "b t"]:
        """Return the mask of frames whose receptive field contains no padding.

        Args:
            mask: valid samples, the first ones of each row.
            convolutions: number of convolutions applied; None is all.
        """
        total, lengths = mask.shape[1], mask.sum(1)
        for kernel, stride in list(zip(self.kernels, self.strides, strict=True))[:convolutions]:
            total, lengths = (total - kernel) // stride + 1, (lengths - kernel) // stride + 1
        return jnp.arange(total)[None] < lengths[:, None]

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: StepContext, tap: Taps) -> Float[Array, "b d"]:
        if self.norm not in ("channel", "layer"):
            raise UserError(f"{modality}: norm is {self.norm!r}; expected 'channel' or 'layer'")
        config, rows, arrays = self.config, batch["example_id"], masked_input(batch, modality)
        wave, least = arrays[modality], self.sample(modality)[modality].shape[1]
        if wave.ndim != 2 or wave.shape[1] < least:
            raise UserError(f"{modality}: waveforms of shape {list(wave.shape)}; expected [b, n] with n ≥ {least}")
        if not jnp.issubdtype(wave.dtype, jnp.floating):
            raise UserError(f"{modality}: waveforms of type {wave.dtype}; expected floats, as from the processor")
        mask = arrays.get(f"{modality}.mask", jnp.ones(wave.shape, bool))
        wave = jnp.where(mask, wave, jnp.zeros((), wave.dtype))
        x, act = wave[..., None].astype(config.dtype or wave.dtype), activation(self.conv_activation)
        for i, (width, kernel, stride) in enumerate(zip(self.convolutions, self.kernels, self.strides, strict=True)):
            x = Conv(width, (kernel,), stride, "VALID", self.conv_bias, name=f"conv_{i}")(x)
            if self.norm == "layer":
                x = nn.LayerNorm(1e-5, dtype=config.dtype, name=f"conv_norm_{i}")(x)
            elif i == 0:
                x = ChannelNorm(name="conv_norm_0")(x, self.frames(mask, 1))
            x = tap(f"frames.{modality}.{i}", act(x))
        valid = tap(f"tokens_mask.{modality}", self.frames(mask))
        x = nn.LayerNorm(config.eps, dtype=config.dtype, name="projected_norm")(x) if self.projected_norm else x
        x = nn.Dense(config.embed_dim, dtype=config.dtype, name="projected")(x)
        x = Dropout(self.feature_dropout, name="dropped_features")(x, ctx, rows)
        x = jnp.where(valid[..., None], x, jnp.zeros((), x.dtype))
        x = x + self.embed_positions(x, valid)

        def norm(x):
            return nn.LayerNorm(config.eps, dtype=config.dtype, name="norm")(x)

        x = x if self.pre_norm else norm(x)
        x = tap(f"hidden.{modality}.0", Dropout(config.dropout, name="dropped")(x, ctx, rows))
        x = self.stack(x, valid, rows, modality, ctx, tap)
        x = tap(f"tokens.{modality}", norm(x) if self.pre_norm else x)
        return masked_mean(x, valid)

    @nn.nowrap
    def embed_positions(self, x: Float[Array, "b t d"], mask: Bool[Array, "b t"]) -> Float[Array, "b t d"]:
        """Return φ(P ∗ x).

        Args:
            x: frames, zero outside the mask.
            mask: valid frames.
        """
        del mask
        return activation(self.conv_activation)(Positions(self.reach, self.groups, name="positions")(x))

    @nn.nowrap
    def stack(
        self,
        x: Float[Array, "b t d"],
        mask: Bool[Array, "b t"],
        rows: Int[Array | np.ndarray, " b"],
        modality: str,
        ctx: StepContext,
        tap: Taps,
    ) -> Float[Array, "b t d"]:
        """Apply the layers, with the arguments of `nn.transformer.Transformer`."""
        layers = Transformer(self.config, partial(Layer, pre_norm=self.pre_norm), name="transformer")
        return layers(x, mask, rows, modality, ctx, tap)


class ChannelNorm(nn.Module):
    """Normalize each channel to zero mean and unit variance over the valid frames.

    Formula: γ (x − mean_t x) / √(var_t x + 1e-5) + β
    """

    @nn.compact
    def __call__(self, x: Float[Array, "b t c"], mask: Bool[Array, "b t"]) -> Float[Array, "b t c"]:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))  # sums over thousands of frames
        valid = mask[..., None].astype(wide.dtype)
        count = jnp.maximum(valid.sum(1, keepdims=True), 1)
        mean = (wide * valid).sum(1, keepdims=True) / count
        inverse_std = jax.lax.rsqrt(((wide - mean) ** 2 * valid).sum(1, keepdims=True) / count + 1e-5)
        return ((wide - mean) * inverse_std * scale[None, None] + bias[None, None]).astype(x.dtype)


class Positions(nn.Module):
    """Convolutional position embedding: a wide grouped convolution.

    Formula: P = g ⊙ v / ‖v‖, with one norm per kernel position (weight normalization), or P = v

    Attributes:
        reach: kernel size in frames; if even, it covers one frame more before the center than after it.
        groups: number of channel groups.
        weight_norm: normalize the kernel.
    """

    reach: int
    groups: int
    weight_norm: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        d = x.shape[-1]
        if d % self.groups:
            raise UserError(f"{self.groups} groups of the positional convolution do not divide an embed_dim of {d}")
        size = d // self.groups
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (self.reach, size, d))
        bias = self.param("bias", nn.initializers.zeros, (d,))
        if self.weight_norm:
            gain = self.param("gain", lambda key: jnp.sqrt((kernel**2).sum((1, 2))))
            kernel = gain[:, None, None] * kernel / jnp.sqrt((kernel**2).sum((1, 2), keepdims=True))
        kernel, bias = kernel.astype(x.dtype), bias.astype(x.dtype)
        pads = [(self.reach // 2, (self.reach - 1) // 2)]

        def one(g):  # XLA's grouped convolution takes three times as long on CPU, and ten times backward
            which = slice(g * size, (g + 1) * size)
            layout = ("NWC", "WIO", "NWC")
            return jax.lax.conv_general_dilated(x[..., which], kernel[..., which], (1,), pads, dimension_numbers=layout)

        return jnp.concatenate([one(g) for g in range(self.groups)], -1) + bias[None, None]
