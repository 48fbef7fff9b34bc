"""Convolutions as layers of a model."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.losses.convolve import Padding, convolve, shifted


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


class Depthwise(nn.Module):
    """A convolution of each channel by itself, as a sum of shifted products.

    Formula: y[i, c] = Σ_j x[stride · i + j, c] K[j, c] + b[c]

    Attributes:
        kernel_size: of each spatial axis.
        strides: of all spatial axes.
        padding: "SAME", "VALID" or (before, after) of each spatial axis.
        use_bias: add one.
    """

    kernel_size: tuple[int, ...]
    strides: int = 1
    padding: Padding = "SAME"
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "b ... c"]) -> Float[Array, "b ... c"]:
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (*self.kernel_size, x.shape[-1])).astype(x.dtype)
        stride, padding = (self.strides,) * len(self.kernel_size), self.padding
        named = isinstance(padding, str)
        where, size = x.shape[1:-1], self.kernel_size
        pads = jax.lax.padtype_to_pads(where, size, stride, padding) if named else tuple(padding)
        y = _each(jnp.pad(x, ((0, 0), *pads, (0, 0))), kernel, self.strides)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
            y = y + bias.astype(y.dtype).reshape((1,) * (y.ndim - 1) + (-1,))
        return y


@partial(jax.jit, static_argnums=2)  # one program where a model is run operation by operation, too
def _each(x, kernel, strides):
    views, factors = shifted(x, kernel.shape[:-1], strides), kernel.reshape(-1, kernel.shape[-1])
    wide = jnp.promote_types(x.dtype, jnp.float32)  # a sum of many: rounded once, at its end
    y = jnp.zeros(views[0].shape, wide)
    for view, factor in zip(views, factors.astype(wide), strict=True):
        y = y + view.astype(wide) * factor.reshape((1,) * (y.ndim - 1) + (-1,))
    return y.astype(x.dtype)
