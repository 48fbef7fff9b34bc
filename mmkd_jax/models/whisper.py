"""Whisper audio encoder on log-mel frames: `(batch, modality, ctx, tap) -> features` [b, d]."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmkd_jax.core.model import Batch, StepContext, Taps
from mmkd_jax.errors import UserError
from mmkd_jax.models._inputs import masked_input
from mmkd_jax.nn.activations import activation
from mmkd_jax.nn.conv import Conv
from mmkd_jax.nn.dropout import Dropout
from mmkd_jax.nn.transformer import Transformer, switches


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
        width: embedding dimension of the tokens.
        layers: number of layers.
        heads: number of attention heads; keys have no bias.
        inner: hidden width of the MLP.
        activation: activation function of the MLP; a name in `nn.activations`. The convolutions use the exact GELU.
        dropout: dropout rate of the embedded frames and of each residual branch.
        attention_dropout: dropout rate of the attention weights.
        dtype: computation dtype, such as jnp.bfloat16; None is the dtype of the parameters.
        remat: recompute each layer's intermediates in the backward pass (`jax.checkpoint`).
        scan: compile one layer and scan over all layers (`jax.lax.scan`).

    Source: Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision, 2022,
        https://arxiv.org/abs/2212.04356
    """

    mels: int = 80
    length: int = 1500
    width: int = 384
    layers: int = 4
    heads: int = 6
    inner: int = 1536
    activation: str = "gelu"
    dropout: float = 0.0
    attention_dropout: float = 0.0
    dtype: Any = None
    remat: bool = False
    scan: bool = False

    @nn.nowrap
    def sample(self, modality: str) -> dict[str, Array]:
        """Return the smallest valid batch, for shape inference."""
        return {modality: jnp.zeros((1, 2 * self.length, self.mels), jnp.float32)}

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: StepContext, tap: Taps) -> Float[Array, "b d"]:
        rows, x = batch["example_id"], masked_input(batch, modality)[modality]
        expected = (2 * self.length, self.mels)
        if x.shape[1:] != expected:
            raise UserError(
                f"{modality}: shape {list(x.shape)}; expected [b, {expected[0]} frames, {expected[1]} mel bands]: "
                "pad the recordings with silence, as the processor does"
            )
        (x,) = nn.dtypes.promote_dtype(x, dtype=self.dtype)
        gelu, padding = activation("gelu"), ((1, 1),)
        x = gelu(Conv(self.width, (3,), padding=padding, name="conv_1")(x))
        x = gelu(Conv(self.width, (3,), 2, padding, name="conv_2")(x))
        positions = self.param("positions", lambda key: jnp.asarray(_sinusoids(self.length, self.width)))
        x = x + positions[None].astype(x.dtype)
        x = tap(f"hidden.{modality}.0", Dropout(self.dropout, name="dropped")(x, ctx, rows))
        stack = Transformer(**switches(self), pre_norm=True, eps=EPS, key_bias=False, name="transformer")
        x = stack(x, None, rows, modality, ctx, tap)
        x = tap(f"tokens.{modality}", nn.LayerNorm(EPS, dtype=self.dtype, name="norm")(x))
        return x.mean(1, dtype=jnp.float32).astype(x.dtype)


EPS = 1e-5


def _sinusoids(length: int, width: int) -> Float[np.ndarray, "l d"]:
    """Sinusoidal position embeddings: sines, then cosines, with wavelengths 2π … 20 000 π in geometric progression."""
    angles = np.arange(length)[:, None] * np.geomspace(1, 1e-4, width // 2)
    return np.concatenate([np.sin(angles), np.cos(angles)], 1).astype(np.float32)
