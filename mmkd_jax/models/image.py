"""Image encoders: `(batch, modality, ctx, tap) -> features` [b, d]."""

import flax.linen as nn
from einops import rearrange
from jaxtyping import Array, Float

from mmkd_jax.batch_norm import BatchNorm
from mmkd_jax.convolution import Conv
from mmkd_jax.errors import UserError
from mmkd_jax.modalities import unit
from mmkd_jax.models.blocks import transformer_blocks
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
        first_stride: of the first layer; 2 halves there, too, which suits images that are not tiny.
    """

    widths: tuple[int, ...] = (16, 32, 64)
    first_stride: int = 1

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: Context, tap: Taps) -> Float[Array, "b d"]:
        x = unit(visible(batch, modality)[modality])
        return conv_stack(self.widths, x, modality, ctx, tap, self.first_stride)


class ImageTransformer(nn.Module):
    """A small vision Transformer (ViT), pre-norm, with learned positions; the features are the mean over patches.

    What each block gives besides `hidden.M.i` stands in `models.blocks`.

    Attributes:
        patch: side of a square patch, px; height and width of the images must be multiples of it.
        width: of the patches' vectors.
        heads: of each attention.
        layers: number of blocks.
    """

    patch: int = 8
    width: int = 64
    heads: int = 4
    layers: int = 2

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: Context, tap: Taps) -> Float[Array, "b d"]:
        x, p = unit(visible(batch, modality)[modality]), self.patch
        height, across = x.shape[1:3]
        if height % p or across % p:
            raise UserError(f"{modality}: images of {height} × {across} px do not divide into patches of {p} px")
        x = nn.Dense(self.width)(rearrange(x, "b (i p) (j q) c -> b (i j) (p q c)", p=p, q=p))
        where = self.param("positions", nn.initializers.normal(0.02), x.shape[1:])
        x = tap(f"hidden.{modality}.0", x + where[None])
        return transformer_blocks(x, None, self.layers, self.heads, modality, tap).mean(1)


def conv_stack(
    widths: tuple[int, ...],
    x: Float[Array, "b h w c"],
    modality: str,
    ctx: Context,
    tap: Taps,
    first_stride: int = 1,
) -> Float[Array, "b d"]:
    """Convolution, BatchNorm, ReLU for each width, and the mean over places; inside a module's `__call__`."""
    for i, width in enumerate(widths):
        x = Conv(width, (3, 3), 2 if i else first_stride, use_bias=False)(x)
        x = BatchNorm()(x, ctx)
        x = tap(f"preactivation.{modality}.{i}", x)
        x = tap(f"hidden.{modality}.{i}", nn.relu(x))
    return x.mean((1, 2))
