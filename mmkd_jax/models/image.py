"""Image encoders: `(batch, modality, ctx, tap) -> features` [b, d]."""

import flax.linen as nn
from einops import rearrange
from jaxtyping import Array, Float

from mmkd_jax.batch_norm import BatchNorm
from mmkd_jax.modalities import unit
from mmkd_jax.models.inputs import visible
from mmkd_jax.views import Batch, Context, Taps


class ImageMLP(nn.Module):
    """Dense layers on the pixels.

    Attributes:
        widths: of the layers; the last one's output is the features.
    """

    widths: tuple[int, ...] = (128, 64)

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: Context, tap: Taps) -> Float[Array, "b d"]:
        x = rearrange(unit(visible(batch, modality)[modality]), "b ... -> b (...)")
        for i, width in enumerate(self.widths):
            x = tap(f"hidden.{modality}.{i}", nn.relu(nn.Dense(width)(x)))
        return x


class ImageCNN(nn.Module):
    """3×3 convolutions with BatchNorm, each but the first halving the image, then the mean over places.

    Attributes:
        widths: channels of the layers.
    """

    widths: tuple[int, ...] = (16, 32, 64)

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: Context, tap: Taps) -> Float[Array, "b d"]:
        x = unit(visible(batch, modality)[modality])
        return conv_stack(self.widths, x, modality, ctx, tap)


def conv_stack(
    widths: tuple[int, ...], x: Float[Array, "b h w c"], modality: str, ctx: Context, tap: Taps
) -> Float[Array, "b d"]:
    """Convolution, BatchNorm, ReLU for each width, and the mean over places; inside a module's `__call__`."""
    for i, width in enumerate(widths):
        x = nn.Conv(width, (3, 3), strides=1 if i == 0 else 2, use_bias=False)(x)
        x = BatchNorm()(x, ctx)
        x = tap(f"preactivation.{modality}.{i}", x)
        x = tap(f"hidden.{modality}.{i}", nn.relu(x))
    return x.mean((1, 2))
