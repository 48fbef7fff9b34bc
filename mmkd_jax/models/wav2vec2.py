"""wav2vec 2.0 and HuBERT, one audio encoder on waveforms: `(batch, modality, ctx, tap) -> features` [b, d]."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mmkd_jax.convolution import Conv
from mmkd_jax.errors import UserError
from mmkd_jax.models.activations import activation
from mmkd_jax.models.dropout import Dropout
from mmkd_jax.models.inputs import visible
from mmkd_jax.models.pooling import mean_where
from mmkd_jax.models.transformer import Transformer, switches
from mmkd_jax.views import Batch, Context, Taps


class Wav2Vec2(nn.Module):
    """Strided convolutions on a waveform, then a Transformer encoder whose positions are a convolution, too.

    Formula: c = φ(norm(K ∗ c)) for each convolution; x = W LN(c); x₀ = LN(x + φ(P ∗ x)); the layers of
        `models.transformer`; with `pre_norm` x₀ = x + φ(P ∗ x) and the LayerNorm stands behind the layers

    The waveform [b, n] has zero mean and unit variance. Padding, said by `audio.mask` [b, n] (true, then false),
    changes nothing: each row's frames are those of the recording by itself, also where `norm` is "channel", whose
    statistics are over time.

    Outputs besides those of the layers: `frames.M.i`, what convolution i gives; `hidden.M.0`, what the first layer
    reads; `tokens.M`, the last frames after the last LayerNorm.

    Attributes:
        convolutions: channels of each.
        kernels: samples or frames that each sees.
        strides: of each.
        conv_bias: whether they have one.
        norm: "channel" normalises the first convolution's channels over time, "layer" each frame of all convolutions.
        conv_activation: φ, a name of `models.activations`.
        projected_norm: whether a LayerNorm stands before W.
        reach: frames that the convolution of positions sees.
        groups: of its channels.
        width: of the frames within the layers.
        layers: how many.
        heads: of each attention.
        inner: width between a layer's two dense layers.
        pre_norm: whether LayerNorms stand before attention and dense layers ("stable").
        activation: a name of `models.activations`.
        eps: of the LayerNorms but those of the convolutions.
        feature_dropout: rate on the projected frames, in training.
        dropout: rate on x₀ and on what is added to a residual connection, in training.
        attention_dropout: rate on the attention's weights, in training.
        dtype: of the computation, such as jnp.bfloat16; the parameters' own, if None.
        remat: compute a layer's intermediates again for the backward pass.
        scan: compile one layer for all.

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
    width: int = 768
    layers: int = 12
    heads: int = 12
    inner: int = 3072
    pre_norm: bool = False
    activation: str = "gelu"
    eps: float = 1e-5
    feature_dropout: float = 0.0
    dropout: float = 0.0
    attention_dropout: float = 0.0
    dtype: Any = None
    remat: bool = False
    scan: bool = False

    @nn.nowrap
    def sample(self, modality: str) -> dict[str, Array]:
        """The smallest batch, for shapes."""
        least = 1
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            least = (least - 1) * stride + kernel
        return {modality: jnp.zeros((1, least), jnp.float32)}

    @nn.nowrap
    def frames(self, mask: Bool[Array | np.ndarray, "b n"], convolutions: int | None = None) -> Bool[Array, "b t"]:
        """Which frames see the recording alone, no padding.

        Args:
            mask: which samples are there, the first ones.
            convolutions: frames behind so many; all, if None.
        """
        here, lengths = mask.shape[1], mask.sum(1)
        for kernel, stride in list(zip(self.kernels, self.strides, strict=True))[:convolutions]:
            here, lengths = (here - kernel) // stride + 1, (lengths - kernel) // stride + 1
        return jnp.arange(here)[None] < lengths[:, None]

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: Context, tap: Taps) -> Float[Array, "b d"]:
        if self.norm not in ("channel", "layer"):
            raise UserError(f"{modality}: norm is {self.norm!r}; expected 'channel' or 'layer'")
        seen, rows = visible(batch, modality), batch["example_id"]
        wave, least = seen[modality], self.sample(modality)[modality].shape[1]
        if wave.ndim != 2 or wave.shape[1] < least:
            raise UserError(f"{modality}: waveforms of shape {list(wave.shape)}; expected [b, n] with n ≥ {least}")
        if not jnp.issubdtype(wave.dtype, jnp.floating):
            raise UserError(f"{modality}: waveforms of type {wave.dtype}; expected floats, as the processor gives them")
        mask = seen.get(f"{modality}.mask", jnp.ones(wave.shape, bool))
        wave = jnp.where(mask, wave, jnp.zeros((), wave.dtype))
        x, act = wave[..., None].astype(self.dtype or wave.dtype), activation(self.conv_activation)
        for i, (width, kernel, stride) in enumerate(zip(self.convolutions, self.kernels, self.strides, strict=True)):
            x = Conv(width, (kernel,), stride, "VALID", self.conv_bias, name=f"conv_{i}")(x)
            if self.norm == "layer":
                x = nn.LayerNorm(1e-5, dtype=self.dtype, name=f"conv_norm_{i}")(x)
            elif i == 0:
                x = ChannelNorm(name="conv_norm_0")(x, self.frames(mask, 1))
            x = tap(f"frames.{modality}.{i}", act(x))
        here = self.frames(mask)
        x = nn.LayerNorm(self.eps, dtype=self.dtype, name="projected_norm")(x) if self.projected_norm else x
        x = nn.Dense(self.width, dtype=self.dtype, name="projected")(x)
        x = Dropout(self.feature_dropout, name="dropped_features")(x, ctx, rows)
        x = jnp.where(here[..., None], x, jnp.zeros((), x.dtype))
        x = x + act(Positions(self.reach, self.groups, name="positions")(x))

        def norm(x):
            return nn.LayerNorm(self.eps, dtype=self.dtype, name="norm")(x)

        x = x if self.pre_norm else norm(x)
        x = tap(f"hidden.{modality}.0", Dropout(self.dropout, name="dropped")(x, ctx, rows))
        x = Transformer(**switches(self), name="transformer")(x, here, rows, modality, ctx, tap)
        x = tap(f"tokens.{modality}", norm(x) if self.pre_norm else x)
        return mean_where(x, here)


class ChannelNorm(nn.Module):
    """Each channel with zero mean and unit variance over the frames that are there.

    Formula: γ (x − mean_t x) / √(var_t x + 1e-5) + β
    """

    @nn.compact
    def __call__(self, x: Float[Array, "b t c"], mask: Bool[Array, "b t"]) -> Float[Array, "b t c"]:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))  # sums over thousands of frames
        here = mask[..., None].astype(wide.dtype)
        count = jnp.maximum(here.sum(1, keepdims=True), 1)
        mean = (wide * here).sum(1, keepdims=True) / count
        spread = jax.lax.rsqrt(((wide - mean) ** 2 * here).sum(1, keepdims=True) / count + 1e-5)
        return ((wide - mean) * spread * scale[None, None] + bias[None, None]).astype(x.dtype)


class Positions(nn.Module):
    """What each frame is told of the frames around it: a wide convolution in groups, with normalised weights.

    Formula: P = g ⊙ v / ‖v‖, a norm for each place of the window (weight normalisation)

    Attributes:
        reach: frames that it sees; of an even number, one more lies before the frame than behind it.
        groups: of the channels.
    """

    reach: int
    groups: int

    @nn.compact
    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        d = x.shape[-1]
        if d % self.groups:
            raise UserError(f"{self.groups} groups of the convolution of positions do not divide a width of {d}")
        own = d // self.groups
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (self.reach, own, d))
        gain = self.param("gain", lambda key: jnp.sqrt((kernel**2).sum((1, 2))))
        bias = self.param("bias", nn.initializers.zeros, (d,))
        kernel = gain[:, None, None] * kernel / jnp.sqrt((kernel**2).sum((1, 2), keepdims=True))
        kernel, bias = kernel.astype(x.dtype), bias.astype(x.dtype)
        pads = [(self.reach // 2, (self.reach - 1) // 2)]

        def one(g):  # XLA's grouped convolution takes three times as long on CPU, and ten times backward
            which = slice(g * own, (g + 1) * own)
            layout = ("NWC", "WIO", "NWC")
            return jax.lax.conv_general_dilated(x[..., which], kernel[..., which], (1,), pads, dimension_numbers=layout)

        return jnp.concatenate([one(g) for g in range(self.groups)], -1) + bias[None, None]
