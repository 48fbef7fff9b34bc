"""Whisper audio encoder on log-mel frames: `(batch, modality, ctx, tap) -> features` [b, d]."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.model import Batch, StepContext, Taps
from mmkd_jax.errors import UserError
from mmkd_jax.models._inputs import masked_input
from mmkd_jax.nn.activations import activation
from mmkd_jax.nn.conv import Conv
from mmkd_jax.nn.dropout import Dropout
from mmkd_jax.nn.positions import sinusoids
from mmkd_jax.nn.transformer import Layer, Transformer, TransformerConfig


class Whisper(nn.Module):
    """Whisper encoder: two convolutions, the second of stride 2, and a pre-norm Transformer encoder.

    Formula: x₀ = gelu(C₂ gelu(C₁ mel)) + positions; the layers of `nn.transformer`; LN

    Every recording has the same number of frames. Whisper was trained with padding (silence) visible, so padding is
    visible here too, and a mask is ignored.

    Outputs, in addition to those of the layers: `hidden.M.0`, the input of the first layer; `tokens.M`, the last tokens
    after the LayerNorm, whose mean is the features.

    Attributes:
        mels: number of mel bands.
        length: number of tokens of a recording, half the number of frames.
        config: sizes and options of the layers, whose keys have no bias; the default is Whisper tiny's. The
            convolutions always use the exact GELU, regardless of the MLP's activation.

    Source: Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision, 2022,
        https://arxiv.org/abs/2212.04356
    """

    mels: int = 80
    length: int = 1500
    config: TransformerConfig = TransformerConfig(embed_dim=384, num_layers=4, num_heads=6, mlp_dim=1536, eps=1e-5)

    sees_padding = True

    @nn.nowrap
    def sample(self, modality: str) -> dict[str, Array]:
        """Return the smallest valid batch, for shape inference."""
        return {modality: jnp.zeros((1, 2 * self.length, self.mels), jnp.float32)}

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: StepContext, tap: Taps) -> Float[Array, "b d"]:
        config, rows, x = self.config, batch["example_id"], masked_input(batch, modality)[modality]
        expected = (2 * self.length, self.mels)
        if x.shape[1:] != expected:
            raise UserError(
                f"{modality}: shape {list(x.shape)}; expected [b, {expected[0]} frames, {expected[1]} mel bands]: "
                "pad the recordings with silence, as the processor does"
            )
        (x,) = nn.dtypes.promote_dtype(x, dtype=config.dtype)
        gelu, padding = activation("gelu"), ((1, 1),)
        x = gelu(Conv(config.embed_dim, (3,), padding=padding, name="conv_1")(x))
        x = gelu(Conv(config.embed_dim, (3,), 2, padding, name="conv_2")(x))
        positions = self.param("positions", lambda key: jnp.asarray(sinusoids(self.length, config.embed_dim)))
        x = x + positions[None].astype(x.dtype)
        x = tap(f"hidden.{modality}.0", Dropout(config.dropout, name="dropped")(x, ctx, rows))
        stack = Transformer(config, partial(Layer, pre_norm=True, key_bias=False), name="transformer")
        x = stack(x, None, rows, modality, ctx, tap)
        x = tap(f"tokens.{modality}", nn.LayerNorm(config.eps, dtype=config.dtype, name="norm")(x))
        return x.mean(1, dtype=jnp.float32).astype(x.dtype)
