"""Convolution layers."""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmkd_jax.convolution import Padding, convolve, shifted


class Conv(nn.Module):
    """Convolution with the parameter names, shapes and initializers of `flax.linen.Conv`.

    Attributes:
        features: number of output channels.
        kernel_size: kernel size on each spatial axis.
        strides: stride, the same on all spatial axes.
        padding: "SAME", "VALID" or (before, after) for each spatial axis.
        use_bias: add a bias.
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
    """Depthwise convolution, computed as a sum of shifted products.

    Formula: y[i, c] = Σ_j x[stride · i + dilation · j, c] K[j, c] + b[c]

    Attributes:
        kernel_size: kernel size on each spatial axis.
        strides: stride, the same on all spatial axes.
        padding: "SAME", "VALID" or (before, after) for each spatial axis.
        use_bias: add a bias.
        dilation: distance between the positions of the kernel.
    """

    kernel_size: tuple[int, ...]
    strides: int = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    dilation: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "b ... c"]) -> Float[Array, "b ... c"]:
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (*self.kernel_size, x.shape[-1])).astype(x.dtype)
        stride, padding = (self.strides,) * len(self.kernel_size), self.padding
        named = isinstance(padding, str)
        spatial, size = x.shape[1:-1], tuple((k - 1) * self.dilation + 1 for k in self.kernel_size)
        pads = jax.lax.padtype_to_pads(spatial, size, stride, padding) if named else tuple(padding)
        y = _depthwise(jnp.pad(x, ((0, 0), *pads, (0, 0))), kernel, self.strides, self.dilation)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
            y = y + bias.astype(y.dtype).reshape((1,) * (y.ndim - 1) + (-1,))
        return y


@partial(jax.jit, static_argnums=(2, 3))  # a single program even if the model runs op by op
def _depthwise(x, kernel, strides, dilation):
    whole = tuple((k - 1) * dilation + 1 for k in kernel.shape[:-1])
    used = np.arange(math.prod(whole)).reshape(whole)[(slice(None, None, dilation),) * len(whole)].ravel()
    windows, factors = shifted(x, whole, strides), kernel.reshape(-1, kernel.shape[-1])
    windows = [windows[i] for i in used]
    wide = jnp.promote_types(x.dtype, jnp.float32)  # long sum: round once, at the end
    y = jnp.zeros(windows[0].shape, wide)
    for window, factor in zip(windows, factors.astype(wide), strict=True):
        y = y + window.astype(wide) * factor.reshape((1,) * (y.ndim - 1) + (-1,))
    return y.astype(x.dtype)
