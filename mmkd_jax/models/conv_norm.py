"""Convolution and BatchNorm, the brick of convolutional encoders."""

import flax.linen as nn
from jaxtyping import Array, Float

from mmkd_jax.batch_norm import BatchNorm
from mmkd_jax.convolution import Conv
from mmkd_jax.losses.convolve import Padding
from mmkd_jax.views import Context


class ConvNorm(nn.Module):
    """A convolution without bias, and BatchNorm.

    Attributes:
        width: channels of the output.
        size: of the kernel, px.
        stride: of the convolution.
        padding: "SAME", "VALID" or (before, after) of both axes.
        momentum: of the BatchNorm.
        eps: of the BatchNorm.
    """

    width: int
    size: int
    stride: int
    padding: Padding
    momentum: float
    eps: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], ctx: Context) -> Float[Array, "b i j d"]:
        x = Conv(self.width, (self.size, self.size), self.stride, self.padding, use_bias=False, name="conv")(x)
        return BatchNorm(self.momentum, self.eps, name="norm")(x, ctx)
