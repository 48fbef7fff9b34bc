"""Speaker encoder on mel frames: `(batch, modality, ctx, tap) -> features` [b, e]."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.model import Batch, StepContext, Taps
from mmkd_jax.errors import UserError
from mmkd_jax.models._inputs import masked_input
from mmkd_jax.nn.recurrent import lstm
from mmkd_jax.numeric import unit


class VoiceLSTM(nn.Module):
    """Speaker encoder: an LSTM stack embeds windows of mel frames, and the embeddings are averaged.

    Formula: e = ReLU(W h + b) / ‖·‖ for each window, with the last state h of the last LSTM; features are the mean of e
        over the windows that have frames, / ‖·‖

    Windows are consecutive on the frame axis; a shorter recording is a single window. Frames outside the mask
    (`audio.mask` [b, t]) leave the state unchanged.

    Outputs: `hidden.M.0`, the frames; `hidden.M.i` [b, t, d], the states of LSTM i; `windows.M` [b, w, e];
    `tokens_mask.M`, the mask of the frames.

    Attributes:
        mels: number of mel bands.
        width: dimension of the LSTM states.
        layers: number of LSTMs.
        embedding: dimension of the features.
        window: number of frames of a window.
        dtype: computation dtype, such as jnp.bfloat16; None is the dtype of the parameters.

    Source: Wan et al., Generalized End-to-End Loss for Speaker Verification, 2018, https://arxiv.org/abs/1710.10467;
        https://github.com/resemble-ai/Resemblyzer
    """

    mels: int = 40
    width: int = 256
    layers: int = 3
    embedding: int = 256
    window: int = 160
    dtype: Any = None

    @nn.nowrap
    def sample(self, modality: str) -> dict[str, Array]:
        """Return the smallest valid batch, for shape inference."""
        return {modality: jnp.zeros((1, 1, self.mels), jnp.float32), f"{modality}.mask": jnp.ones((1, 1), bool)}

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: StepContext, tap: Taps) -> Float[Array, "b e"]:
        arrays = masked_input(batch, modality)
        x = arrays[modality]
        if x.ndim != 3 or x.shape[2] != self.mels:
            raise UserError(f"{modality}: shape {list(x.shape)}; expected [b, frames, {self.mels} mel bands]")
        b, t, _ = x.shape
        size = min(self.window, t)
        if t % size:
            raise UserError(f"{modality}: {t} frames are not a multiple of the window of {size}: use the processor")
        mask = tap(f"tokens_mask.{modality}", arrays.get(f"{modality}.mask", jnp.ones((b, t), bool)))
        (x,) = nn.dtypes.promote_dtype(x, dtype=self.dtype)
        x = tap(f"hidden.{modality}.0", jnp.where(mask[..., None], x, jnp.zeros((), x.dtype)))
        mask, gates = mask.reshape(-1, size), 4 * self.width
        for i in range(self.layers):
            inward = nn.Dense(gates, dtype=self.dtype, name=f"inward_{i}")(x.reshape(b * t, -1))
            recurrent = self.param(f"recurrent_{i}", nn.initializers.orthogonal(), (self.width, gates))
            bias = self.param(f"bias_{i}", nn.initializers.zeros, (gates,))
            inward, recurrent, bias = nn.dtypes.promote_dtype(inward, recurrent, bias, dtype=self.dtype)
            states = lstm((inward + bias[None]).reshape(-1, size, gates), recurrent, mask)
            x = tap(f"hidden.{modality}.{i + 1}", states.reshape(b, t, self.width))
        last = x.reshape(-1, size, self.width)[:, -1]
        embedded = nn.relu(nn.Dense(self.embedding, dtype=self.dtype, name="linear")(last))
        embedded = tap(f"windows.{modality}", unit(embedded).reshape(b, t // size, -1))
        nonempty = mask.any(1).reshape(b, -1, 1)
        return unit(jnp.where(nonempty, embedded, jnp.zeros((), x.dtype)).sum(1))
