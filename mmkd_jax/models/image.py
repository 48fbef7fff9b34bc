"""Image encoders: `(batch, modality, ctx, tap) -> features` [b, d]."""

import flax.linen as nn
from einops import rearrange
from jaxtyping import Array, Float

from mmkd_jax.core.modalities import unit
from mmkd_jax.core.model import Batch, StepContext, Taps
from mmkd_jax.errors import UserError
from mmkd_jax.models._inputs import masked_input
from mmkd_jax.nn.batch_norm import BatchNorm
from mmkd_jax.nn.blocks import transformer_blocks
from mmkd_jax.nn.conv import Conv


class ImageMLP(nn.Module):
    """MLP on the flattened pixels.

    Attributes:
        widths: layer widths; the last layer's output is the features.
    """

    widths: tuple[int, ...] = (128, 64)

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: StepContext, tap: Taps) -> Float[Array, "b d"]:
        x = rearrange(unit(masked_input(batch, modality)[modality]), "b ... -> b (...)")
        for i, width in enumerate(self.widths):
            x = tap(f"hidden.{modality}.{i}", nn.relu(nn.Dense(width)(x)))
        return x


class ImageCNN(nn.Module):
    """Small CNN: 3×3 convolutions with BatchNorm and ReLU, then global average pooling.

    All layers except the first have stride 2.

    Attributes:
        widths: number of channels of each layer.
        first_stride: stride of the first layer; use 2 unless images are tiny.
    """

    widths: tuple[int, ...] = (16, 32, 64)
    first_stride: int = 1

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: StepContext, tap: Taps) -> Float[Array, "b d"]:
        x = unit(masked_input(batch, modality)[modality])
        return conv_stack(self.widths, x, modality, ctx, tap, self.first_stride)


class ImageTransformer(nn.Module):
    """Small vision Transformer (ViT), pre-norm, with learned position embeddings and mean pooling over patches.

    For the outputs of each block other than `hidden.M.i`, see `nn.blocks`.

    Attributes:
        patch: side of a square patch, px; must divide the height and width of the images.
        embed_dim: dimension of the patches.
        num_heads: number of attention heads.
        num_layers: number of blocks.
    """

    patch: int = 8
    embed_dim: int = 64
    num_heads: int = 4
    num_layers: int = 2

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: StepContext, tap: Taps) -> Float[Array, "b d"]:
        x, p = unit(masked_input(batch, modality)[modality]), self.patch
        height, width = x.shape[1:3]
        if height % p or width % p:
            raise UserError(f"{modality}: images of {height} × {width} px do not divide into patches of {p} px")
        x = nn.Dense(self.embed_dim)(rearrange(x, "b (i p) (j q) c -> b (i j) (p q c)", p=p, q=p))
        positions = self.param("positions", nn.initializers.normal(0.02), x.shape[1:])
        x = tap(f"hidden.{modality}.0", x + positions[None])
        return transformer_blocks(x, None, self.num_layers, self.num_heads, modality, tap).mean(1)


def conv_stack(
    widths: tuple[int, ...],
    x: Float[Array, "b h w c"],
    modality: str,
    ctx: StepContext,
    tap: Taps,
    first_stride: int = 1,
) -> Float[Array, "b d"]:
    """Apply convolution, BatchNorm and ReLU per width, then global average pooling, inside a module's `__call__`."""
    for i, width in enumerate(widths):
        x = Conv(width, (3, 3), 2 if i else first_stride, use_bias=False)(x)
        x = BatchNorm()(x, ctx)
        x = tap(f"preactivation.{modality}.{i}", x)
        x = tap(f"hidden.{modality}.{i}", nn.relu(x))
    return x.mean((1, 2))
