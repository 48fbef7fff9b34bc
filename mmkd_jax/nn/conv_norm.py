"""Convolution with BatchNorm, the building block of convolutional encoders."""

import flax.linen as nn
from jaxtyping import Array, Float

from mmkd_jax.convolution import Padding
from mmkd_jax.core.model import StepContext
from mmkd_jax.nn.batch_norm import BatchNorm
from mmkd_jax.nn.conv import Conv


class ConvNorm(nn.Module):
    """Convolution without bias, followed by BatchNorm.

    Attributes:
        width: number of output channels.
        size: kernel size, px.
        stride: stride of the convolution.
        padding: "SAME", "VALID" or (before, after) for both axes.
        momentum: decay of the BatchNorm running averages.
        eps: epsilon of the BatchNorm.
    """

    width: int
    size: int
    stride: int
    padding: Padding
    momentum: float
    eps: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], ctx: StepContext) -> Float[Array, "b i j d"]:
        x = Conv(self.width, (self.size, self.size), self.stride, self.padding, use_bias=False, name="conv")(x)
        return BatchNorm(self.momentum, self.eps, name="norm")(x, ctx)
