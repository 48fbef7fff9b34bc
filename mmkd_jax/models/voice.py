"""A speaker encoder on mel frames: `(batch, modality, ctx, tap) -> features` [b, e]."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.errors import UserError
from mmkd_jax.losses.numeric import unit
from mmkd_jax.models.inputs import visible
from mmkd_jax.models.recurrent import lstm
from mmkd_jax.views import Batch, Context, Taps


class VoiceLSTM(nn.Module):
    """LSTMs on windows of mel frames, which are embedded each by itself and then averaged: who speaks.

    Formula: a window's embedding is ReLU(W h + b) / ‖·‖ of the last state h of the last LSTM; features are the mean of
        those of the windows that have frames, / ‖·‖

    Windows lie one after the other on the axis of frames; fewer frames are one window. Frames outside of the mask
    (`audio.mask` [b, t]) leave the state as it was.

    Outputs: `hidden.M.0`, the frames; `hidden.M.i` [b, t, d], the states of LSTM i; `windows.M` [b, w, e].

    Attributes:
        mels: bands of a frame.
        width: of the states.
        layers: how many LSTMs.
        embedding: width of the features.
        window: frames of a window.
        dtype: of the computation, such as jnp.bfloat16; the parameters' own, if None.

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
        """The smallest batch, for shapes."""
        return {modality: jnp.zeros((1, 1, self.mels), jnp.float32), f"{modality}.mask": jnp.ones((1, 1), bool)}

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: Context, tap: Taps) -> Float[Array, "b e"]:
        seen = visible(batch, modality)
        x = seen[modality]
        if x.ndim != 3 or x.shape[2] != self.mels:
            raise UserError(f"{modality}: shape {list(x.shape)}; expected [b, frames, {self.mels} mel bands]")
        b, t, _ = x.shape
        size = min(self.window, t)
        if t % size:
            raise UserError(f"{modality}: {t} frames are no whole windows of {size}: the processor makes them")
        mask = seen.get(f"{modality}.mask", jnp.ones((b, t), bool))
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
        here = mask.any(1).reshape(b, -1, 1)
        return unit(jnp.where(here, embedded, jnp.zeros((), x.dtype)).sum(1))
