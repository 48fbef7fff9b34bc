"""Attributes of an encoder, with those of its `TransformerConfig`: from config.json, overridden, and back.

A family's table maps an attribute to a key of config.json and its default: `"embed_dim": ("hidden_size", 768)`.
"""

import dataclasses
import math
import reprlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from mmkd_jax.errors import UserError
from mmkd_jax.nn.transformer import TransformerConfig

Fields = Mapping[str, tuple[str, Any]]

_CONFIG = tuple(f.name for f in dataclasses.fields(TransformerConfig))
_KIND = ("activation", "eps", "bias", "gated_mlp", "layer_scale")
"""Attributes that a kind fixes if its table lacks them."""


_FROM_ZERO = ("padding", "types")
"""Attributes that may be 0; all other whole numbers are 1 or more."""

MOST = 2**31 - 1
"""Largest whole number in a configuration."""


def read(config: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """Return the attributes that config.json sets.

    Args:
        config: content of config.json, or a section of it.
        fields: table of the family.

    Raises:
        UserError: a value has another type than the default, or is out of range.
    """
    return {
        ours: field(config, theirs, default, 0 if ours in _FROM_ZERO else 1)
        for ours, (theirs, default) in fields.items()
    }


def field(config: Mapping[str, Any], key: str, default: Any, least: int = 1) -> Any:
    """Return a value of config.json that has the type of its default.

    Args:
        config: content of config.json, or a section of it.
        key: key of the value.
        default: value if the key is missing; None means an optional whole number, and a tuple a list.
        least: minimum of whole numbers.

    Returns:
        The value. A float is positive and finite; a dropout rate, whose key contains "dropout", is in [0, 1).

    Raises:
        UserError: the value has another type, or is out of range.

    Example:
        >>> field({"hidden_size": "many"}, "hidden_size", 768)
        Traceback (most recent call last):
        mmkd_jax.errors.UserError: config.json has hidden_size='many'; expected a whole number, 1 … 2147483647
    """
    x = config.get(key, default)
    if isinstance(default, tuple):
        expected = "a list with a value for each layer"
        if x is not default and isinstance(x, list | tuple) and x:
            for each in x:
                field({key: each}, key, default[0], least)
        valid = isinstance(x, list | tuple) and len(x) > 0
    elif isinstance(default, bool):
        valid, expected = isinstance(x, bool), "true or false"
    elif isinstance(default, str):
        valid, expected = isinstance(x, str), "a string"
    elif isinstance(default, float):
        share = "dropout" in key
        valid = _is_number(x) and (0 <= x < 1 if share else 1e-45 <= x <= 3.4e38)
        expected = "a number from 0 to below 1" if share else "a positive number that float32 can represent"
    else:
        valid = (type(x) is int and least <= x <= MOST) or (x is None and default is None)
        expected = f"a whole number, {least} … {MOST}"
    if not valid:
        raise UserError(f"config.json has {key}={reprlib.repr(x)}; expected {expected}")
    return x


def number(config: Mapping[str, Any], key: str, default: float | int) -> float | int:
    """Return a number of config.json, which is not negative.

    Args:
        config: content of config.json, or a section of it.
        key: key of the value.
        default: value if the key is missing.

    Raises:
        UserError: the value is not a number, is negative, or is not finite.
    """
    x = config.get(key, default)
    if not _is_number(x) or not 0 <= x <= 3.4e38:
        raise UserError(f"config.json has {key}={reprlib.repr(x)}; expected a finite number, 0 or more")
    return x


def sides(config: Mapping[str, Any], key: str, default: int) -> tuple[int, int]:
    """Return height and width, for which config.json has a number or a list of two.

    Args:
        config: content of config.json, or a section of it.
        key: key of the value.
        default: value if the key is missing.

    Raises:
        UserError: the value is anything else.

    Example:
        >>> sides({"image_size": [224, 160]}, "image_size", 224), sides({}, "image_size", 224)
        ((224, 160), (224, 224))
    """
    x = config.get(key, default)
    if isinstance(x, list) and len(x) == 2:
        height, width = (field({key: each}, key, default) for each in x)
        return height, width
    return (field(config, key, default),) * 2


def section(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return a section of config.json, which is empty if it is missing or null.

    Args:
        config: content of config.json.
        key: key of the section.

    Raises:
        UserError: it is not an object.
    """
    x = config.get(key) or {}
    if not isinstance(x, dict):
        raise UserError(f"config.json has {key}={reprlib.repr(x)}; expected an object")
    return x


def _is_number(x):
    return isinstance(x, int | float) and not isinstance(x, bool) and (isinstance(x, int) or math.isfinite(x))


def attributes(encoder: nn.Module) -> dict[str, Any]:
    """Return the attributes of an encoder and of its `config`, if it has one, by name.

    Example:
        >>> from mmkd_jax.models import Vit
        >>> attributes(Vit())["patch"], attributes(Vit())["mlp_dim"]
        ((16, 16), 3072)
    """
    own = {f.name: getattr(encoder, f.name) for f in dataclasses.fields(encoder) if f.name not in ("parent", "name")}
    config = own.pop("config", None)
    return own if config is None else own | {n: getattr(config, n) for n in _CONFIG}


def replaced(encoder: nn.Module, **changes: Any) -> nn.Module:
    """Return an encoder with some attributes replaced, its own or those of its `config`.

    Example:
        >>> from mmkd_jax.models import Vit
        >>> small = replaced(Vit(), num_layers=6, pool="mean")
        >>> small.config.num_layers, small.pool
        (6, 'mean')
    """
    if not isinstance(config := getattr(encoder, "config", None), TransformerConfig):
        return encoder.clone(**changes)
    own = {n: x for n, x in changes.items() if n not in _CONFIG}
    options = {n: x for n, x in changes.items() if n in _CONFIG}
    return encoder.clone(config=dataclasses.replace(config, **options), **own)


def written(kind: str, encoder: nn.Module, fields: Fields, **expected: Any) -> dict[str, Any]:
    """Return the keys of config.json that describe an encoder.

    Args:
        kind: `model_type`.
        encoder: the encoder.
        fields: table of the family.
        **expected: values of attributes that every encoder of this kind has. The default is that of the encoder's class
            for the activation, `eps`, `bias`, `gated_mlp` and `layer_scale`, except those in the table.

    Raises:
        UserError: the encoder has other values.
    """
    values, config = attributes(encoder), getattr(type(encoder), "config", None)
    if isinstance(config, TransformerConfig):
        expected = {n: getattr(config, n) for n in _KIND if n not in fields} | expected
    if wrong := [f"{n}={values[n]!r}" for n, value in expected.items() if values[n] != value]:
        raise UserError(f"kind {kind!r} does not describe an encoder with {', '.join(wrong)}")
    return {theirs: values[ours] for ours, (theirs, _) in fields.items()}
