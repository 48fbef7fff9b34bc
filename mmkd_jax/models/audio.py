"""Audio encoders on log-mel frames: `(batch, modality, ctx, tap) -> features` [b, d]."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.modalities import unit
from mmkd_jax.models.image import conv_stack
from mmkd_jax.models.inputs import visible
from mmkd_jax.models.pooling import mean_where
from mmkd_jax.views import Batch, Context, Taps


class AudioTDNN(nn.Module):
    """Time-delay layers: each sees ±`reach` frames, as one matrix product; the first halves the rate.

    Frames outside the recording or its mask (`audio.mask` [b, t]) are zeros and are not pooled.

    Attributes:
        widths: of the layers.
        reach: frames to each side.
    """

    widths: tuple[int, ...] = (64, 64)
    reach: int = 2

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: Context, tap: Taps) -> Float[Array, "b d"]:
        seen = visible(batch, modality)
        x, mask = _frames(seen, modality)
        for i, width in enumerate(self.widths):
            stride = 2 if i == 0 else 1
            x = jnp.where(mask[..., None], x, jnp.zeros((), x.dtype))
            frames = x.shape[1]
            padded = jnp.pad(x, ((0, 0), (self.reach, self.reach), (0, 0)))
            # stacked frames and a matrix product: convolutions are several times slower inside a scan on CPU
            shifts = [padded[:, s : s + frames : stride] for s in range(2 * self.reach + 1)]
            mask = mask[:, ::stride]
            x = tap(f"hidden.{modality}.{i}", nn.relu(nn.Dense(width)(jnp.concatenate(shifts, -1))))
        return _pooled(x, mask)


class AudioCNN(nn.Module):
    """3×3 convolutions on the log-mel picture [t, f], then the mean over places.

    Attributes:
        widths: channels of the layers.
    """

    widths: tuple[int, ...] = (16, 32, 64)

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: Context, tap: Taps) -> Float[Array, "b d"]:
        x, mask = _frames(visible(batch, modality), modality)
        x = jnp.where(mask[..., None], x, jnp.zeros((), x.dtype))
        return conv_stack(self.widths, x[..., None], modality, ctx, tap)


def _frames(seen, modality) -> tuple[Float[Array, "b t f"], Bool[Array, "b t"]]:
    """Levels with their mean over the recording taken away (loudness is no word), and which frames there are."""
    x = unit(seen[modality])
    mask = seen.get(f"{modality}.mask", jnp.ones(x.shape[:2], bool))
    w = mask[..., None].astype(x.dtype)
    count = jnp.maximum(w.sum((1, 2), keepdims=True) * x.shape[2], 1)
    inside = jnp.where(mask[..., None], x, jnp.zeros((), x.dtype))
    mean = inside.sum((1, 2), keepdims=True) / count
    spread = jax.lax.rsqrt((w * (inside - mean) ** 2).sum((1, 2), keepdims=True) / count + 1e-4)
    return (inside - mean) * spread, mask


def _pooled(x: Float[Array, "b t d"], mask: Bool[Array, "b t"]) -> Float[Array, "b e"]:
    """Mean and maximum over the frames there are; zeros where there are none (x is not negative)."""
    inside = jnp.where(mask[..., None], x, jnp.zeros((), x.dtype))
    return jnp.concatenate([mean_where(x, mask), inside.max(1)], -1)
