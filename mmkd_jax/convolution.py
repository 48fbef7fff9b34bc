"""Convolution that is as fast inside a compiled loop as outside."""

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Padding = str | Sequence[tuple[int, int]]


def convolve(
    x: Float[Array, "b ... c"],
    kernel: Float[Array, "... c d"],
    strides: int = 1,
    padding: Padding = "SAME",
    precision: str | None = None,
) -> Float[Array, "b ... d"]:
    """Channels-last convolution.

    Formula: y[i] = Σ_j x[stride · i + j] K_j

    On CPU this is one matrix product, because XLA's own convolution is 20 times slower there inside a loop, and half as
    fast outside, gradients included (`benchmarks/loops.py`). Other platforms use XLA's convolution.

    Args:
        x: inputs, with any number of spatial axes.
        kernel: kernel K.
        strides: stride along every spatial axis.
        padding: "SAME", "VALID", or (before, after) for each spatial axis.
        precision: precision of the products, as in `jax.lax.dot`.

    Example:
        >>> convolve(jnp.ones((1, 4, 1)), jnp.ones((3, 1, 1)))[0, :, 0]
        Array([2., 3., 3., 2.], dtype=float32)
    """
    window = kernel.shape[:-2]
    stride = (strides,) * len(window)
    named = isinstance(padding, str)
    pads = jax.lax.padtype_to_pads(x.shape[1:-1], window, stride, padding) if named else tuple(padding)

    def product(x, kernel):
        patches = jnp.concatenate(shifted(jnp.pad(x, ((0, 0), *pads, (0, 0))), window, strides), -1)
        rows = patches.reshape(math.prod(patches.shape[:-1]), -1)
        flat = jnp.matmul(rows, kernel.reshape(-1, kernel.shape[-1]), precision=precision)
        return flat.reshape(*patches.shape[:-1], -1)

    def convolution(x, kernel):
        axes = tuple(range(x.ndim))
        last = (axes[-1], *axes[1:-1])
        layout = jax.lax.ConvDimensionNumbers((0, *last), (axes[-1], axes[-2], *axes[:-2]), (0, *last))
        return jax.lax.conv_general_dilated(x, kernel, stride, pads, dimension_numbers=layout, precision=precision)

    return jax.lax.platform_dependent(x, kernel, cpu=product, default=convolution)


def shifted(x: Float[Array, "b ... c"], window: tuple[int, ...], strides: int = 1) -> list[Float[Array, "b ... c"]]:
    """Return the shifted inputs of a sliding window: one strided slice per kernel position, in row-major order.

    Args:
        x: padded inputs, with any number of spatial axes.
        window: window size along each spatial axis.
        strides: stride along every spatial axis.

    Example:
        >>> [v[0, :, 0].tolist() for v in shifted(jnp.arange(4.0).reshape(1, 4, 1), (2,))]
        [[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]]
    """
    sizes = [(n - k) // strides + 1 for n, k in zip(x.shape[1:-1], window, strict=True)]

    def window_slice(start):
        ends = (s + (n - 1) * strides + 1 for s, n in zip(start, sizes, strict=True))
        return x[:, *(slice(s, e, strides) for s, e in zip(start, ends, strict=True))]

    return [window_slice(start) for start in itertools.product(*map(range, window))]
