"""Activation functions by their names in published configurations."""

import reprlib
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from mmkd_jax.errors import UserError, choices

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu_fast": partial(jax.nn.gelu, approximate=True),
    "gelu_new": partial(jax.nn.gelu, approximate=True),
    "gelu_pytorch_tanh": partial(jax.nn.gelu, approximate=True),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "tanh": jnp.tanh,
}


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
    """Return the activation function with the given name.

    Raises:
        UserError: unknown name.

    Example:
        >>> float(activation("relu")(jnp.float32(-1)))
        0.0
    """
    if name not in ACTIVATIONS:
        raise UserError(f"unknown activation {reprlib.repr(name)}; expected one of: {choices(ACTIVATIONS)}")
    return ACTIVATIONS[name]
