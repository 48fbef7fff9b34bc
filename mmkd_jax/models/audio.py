"""Audio encoders on log-mel frames: `(batch, modality, ctx, tap) -> features` [b, d]."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.core.modalities import unit
from mmkd_jax.core.model import Batch, StepContext, Taps
from mmkd_jax.models._inputs import masked_input
from mmkd_jax.models.image import conv_stack
from mmkd_jax.nn.pooling import masked_mean


class AudioTDNN(nn.Module):
    """Time-delay neural network (TDNN): each layer sees ±`reach` frames; the first halves the frame rate.

    Each layer is a single matrix product. Frames outside the recording or its mask (`audio.mask` [b, t]) are zeros and
    are not pooled. Outputs: `hidden.M.i`, the output of layer i [b, t / 2, d], and `tokens_mask.M` [b, t / 2].

    Attributes:
        widths: layer widths.
        reach: number of frames of context on each side.
    """

    widths: tuple[int, ...] = (64, 64)
    reach: int = 2

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: StepContext, tap: Taps) -> Float[Array, "b d"]:
        seen = masked_input(batch, modality)
        x, mask = _frames(seen, modality)
        for i, width in enumerate(self.widths):
            stride = 2 if i == 0 else 1
            x = jnp.where(mask[..., None], x, jnp.zeros((), x.dtype))
            frames = x.shape[1]
            padded = jnp.pad(x, ((0, 0), (self.reach, self.reach), (0, 0)))
            # stacked frames and one matrix product: convolutions are several times slower inside a scan on CPU
            shifts = [padded[:, s : s + frames : stride] for s in range(2 * self.reach + 1)]
            mask = mask[:, ::stride]
            x = tap(f"hidden.{modality}.{i}", nn.relu(nn.Dense(width)(jnp.concatenate(shifts, -1))))
        return _pooled(x, tap(f"tokens_mask.{modality}", mask))


class AudioCNN(nn.Module):
    """CNN on log-mel spectrograms [t, f]: 3×3 convolutions, then global average pooling.

    Attributes:
        widths: number of channels of each layer.
    """

    widths: tuple[int, ...] = (16, 32, 64)

    sees_padding = True

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: StepContext, tap: Taps) -> Float[Array, "b d"]:
        x, mask = _frames(masked_input(batch, modality), modality)
        x = jnp.where(mask[..., None], x, jnp.zeros((), x.dtype))
        return conv_stack(self.widths, x[..., None], modality, ctx, tap)


def _frames(seen, modality) -> tuple[Float[Array, "b t f"], Bool[Array, "b t"]]:
    """Log-mel levels standardized over each recording, which removes loudness, and the mask of frames."""
    x = unit(seen[modality])
    mask = seen.get(f"{modality}.mask", jnp.ones(x.shape[:2], bool))
    w = mask[..., None].astype(x.dtype)
    count = jnp.maximum(w.sum((1, 2), keepdims=True) * x.shape[2], 1)
    inside = jnp.where(mask[..., None], x, jnp.zeros((), x.dtype))
    mean = inside.sum((1, 2), keepdims=True) / count
    inverse_std = jax.lax.rsqrt((w * (inside - mean) ** 2).sum((1, 2), keepdims=True) / count + 1e-4)
    return (inside - mean) * inverse_std, mask


def _pooled(x: Float[Array, "b t d"], mask: Bool[Array, "b t"]) -> Float[Array, "b e"]:
    """Masked mean and maximum over frames; zeros if the mask is empty (x is nonnegative)."""
    inside = jnp.where(mask[..., None], x, jnp.zeros((), x.dtype))
    return jnp.concatenate([masked_mean(x, mask), inside.max(1)], -1)
