"""FLOPs of a program, counted from its jaxpr: matrix products and convolutions, loops included."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend import core

# peak dense bf16 FLOP/s by `device_kind`, from the vendors' data sheets
PEAKS = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
}


def flops(function: Callable, *arguments: Any) -> int:
    """Count the FLOPs of one call: 2 for each multiply-add of matrix products and convolutions.

    Products with the padding of a convolution, and in the backward pass with the zeros between strides, do not count.

    XLA's cost analysis counts the body of a loop once; this function multiplies it by the length of a scan. The body of
    a `while` loop counts once. Of several branches the most expensive counts. Unused results do not count, since XLA
    removes them.

    Args:
        function: a JAX function.
        *arguments: arrays or ShapeDtypeStructs.

    Example:
        >>> import jax.numpy as jnp
        >>> flops(lambda x: x @ x, jnp.ones((2, 2)))  # 2 · 2 · 2 multiply-adds
        16
    """
    closed = jax.make_jaxpr(function)(*arguments)
    return _count(_alive(closed.jaxpr))


def _alive(jaxpr):
    """Drop equations that the outputs do not depend on, at this level."""
    needed, alive = {v for v in jaxpr.outvars if isinstance(v, core.Var)}, []
    for equation in reversed(jaxpr.eqns):
        if equation.effects or any(v in needed for v in equation.outvars):
            alive.append(equation)
            needed |= {v for v in equation.invars if isinstance(v, core.Var)}
    return list(reversed(alive))


def _count(equations) -> int:
    total = 0
    for equation in equations:
        name, inner = equation.primitive.name, _jaxprs(equation.params)
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left, (out,) = equation.invars[0].aval.shape, equation.outvars
            total += 2 * math.prod(out.aval.shape) * math.prod(left[i] for i in contracted)
        elif name == "conv_general_dilated":
            shapes = (v.aval.shape for v in (*equation.invars, *equation.outvars))
            total += 2 * _products(equation.params, *shapes)
        elif name == "cond":  # platform branches do the same work and differ in products with zeros
            each = list(map(_count, inner))
            total += min(each) if equation.params.get("branches_platforms") else max(each)
        elif name == "scan":
            total += equation.params["length"] * sum(map(_count, inner))
        else:
            total += sum(map(_count, inner))
    return total


def _products(params, image, kernel, out) -> int:
    """Count the multiply-adds of a convolution, without padding and the zeros of a dilated image."""
    at = params["dimension_numbers"]
    each = kernel[at.rhs_spec[1]] * out[at.out_spec[0]] * out[at.out_spec[1]]
    windows = zip(
        params["window_strides"], params["padding"], params["lhs_dilation"], params["rhs_dilation"], strict=True
    )
    for i, (stride, (low, _), apart, spread) in enumerate(windows, 2):
        size, taps, places = image[at.lhs_spec[i]], kernel[at.rhs_spec[i]], out[at.out_spec[i]]
        reached = np.add.outer(stride * np.arange(places), spread * np.arange(taps)) - low
        each *= int(np.sum((reached >= 0) & (reached <= (size - 1) * apart) & (reached % apart == 0)))
    return each


def _jaxprs(params) -> list:
    found = []
    for value in params.values():
        for x in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(x, core.ClosedJaxpr):
                x = x.jaxpr
            if isinstance(x, core.Jaxpr):
                found.append(_alive(x))
    return found
