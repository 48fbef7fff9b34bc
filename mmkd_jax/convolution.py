"""Convolution as a layer of a model."""

import flax.linen as nn
from jaxtyping import Array, Float

from mmkd_jax.losses.convolve import Padding, convolve


class Conv(nn.Module):
    """A convolution; parameters have the names, shapes and start values of `flax.linen.Conv`.

    Attributes:
        features: channels of the output.
        kernel_size: of each spatial axis.
        strides: of all spatial axes.
        padding: "SAME", "VALID" or (before, after) of each spatial axis.
        use_bias: add one.
    """

    features: int
    kernel_size: tuple[int, ...]
    strides: int = 1
    padding: Padding = "SAME"
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "b ... c"]) -> Float[Array, "b ... d"]:
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        y = convolve(x, kernel.astype(x.dtype), self.strides, self.padding)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            y = y + bias.astype(y.dtype).reshape((1,) * (y.ndim - 1) + (-1,))
        return y
