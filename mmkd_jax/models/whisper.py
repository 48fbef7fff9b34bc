"""Whisper's encoder on log-mel frames: `(batch, modality, ctx, tap) -> features` [b, d]."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmkd_jax.convolution import Conv
from mmkd_jax.errors import UserError
from mmkd_jax.models.activations import activation
from mmkd_jax.models.dropout import Dropout
from mmkd_jax.models.inputs import visible
from mmkd_jax.models.transformer import Transformer, switches
from mmkd_jax.views import Batch, Context, Taps


class Whisper(nn.Module):
    """Two convolutions, of which the second halves the frames, and a pre-norm Transformer encoder.

    Formula: x₀ = gelu(C₂ gelu(C₁ mel)) + positions; the layers of `models.transformer`; LN

    Every recording has the same number of frames: the silence that fills it up is part of what Whisper learned from,
    and of what is seen here. A mask is not read.

    Outputs besides those of the layers: `hidden.M.0`, what the first layer reads; `tokens.M`, the last tokens after the
    LayerNorm, whose mean is the features.

    Attributes:
        mels: bands of a frame.
        length: tokens of a recording, half its frames.
        width: of the tokens.
        layers: how many.
        heads: of each attention; keys have no bias.
        inner: width between a layer's two dense layers.
        activation: a name of `models.activations`; that of the convolutions is the exact GELU.
        dropout: rate on the embedded frames and on what is added to a residual connection, in training.
        attention_dropout: rate on the attention's weights, in training.
        dtype: of the computation, such as jnp.bfloat16; the parameters' own, if None.
        remat: compute a layer's intermediates again for the backward pass.
        scan: compile one layer for all.

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
        """The smallest batch, for shapes."""
        return {modality: jnp.zeros((1, 2 * self.length, self.mels), jnp.float32)}

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: Context, tap: Taps) -> Float[Array, "b d"]:
        rows, x = batch["example_id"], visible(batch, modality)[modality]
        expected = (2 * self.length, self.mels)
        if x.shape[1:] != expected:
            raise UserError(
                f"{modality}: shape {list(x.shape)}; expected [b, {expected[0]} frames, {expected[1]} mel bands]: "
                "recordings are filled up with silence, as the processor does"
            )
        (x,) = nn.dtypes.promote_dtype(x, dtype=self.dtype)
        gelu, around = activation("gelu"), ((1, 1),)
        x = gelu(Conv(self.width, (3,), padding=around, name="conv_1")(x))
        x = gelu(Conv(self.width, (3,), 2, around, name="conv_2")(x))
        positions = self.param("positions", lambda key: jnp.asarray(_sinusoids(self.length, self.width)))
        x = x + positions[None].astype(x.dtype)
        x = tap(f"hidden.{modality}.0", Dropout(self.dropout, name="dropped")(x, ctx, rows))
        stack = Transformer(**switches(self), pre_norm=True, eps=EPS, key_bias=False, name="transformer")
        x = stack(x, None, rows, modality, ctx, tap)
        x = tap(f"tokens.{modality}", nn.LayerNorm(EPS, dtype=self.dtype, name="norm")(x))
        return x.mean(1, dtype=jnp.float32).astype(x.dtype)


EPS = 1e-5


def _sinusoids(length: int, width: int) -> Float[np.ndarray, "l d"]:
    """Sines, then cosines, of wavelengths 2π … 20 000 π in a geometric series."""
    turns = np.arange(length)[:, None] * np.geomspace(1, 1e-4, width // 2)
    return np.concatenate([np.sin(turns), np.cos(turns)], 1).astype(np.float32)
