"""Attributes of an encoder, with those of its `TransformerConfig`: from config.json, overridden, and back.

A family's table maps an attribute to a key of config.json and its default: `"embed_dim": ("hidden_size", 768)`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from mmkd_jax.errors import UserError
from mmkd_jax.nn.transformer import TransformerConfig

Fields = Mapping[str, tuple[str, Any]]

_CONFIG = tuple(f.name for f in dataclasses.fields(TransformerConfig))
_KIND = ("activation", "eps", "bias", "gated_mlp", "layer_scale")
"""Attributes that a kind fixes if its table lacks them."""


def read(config: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """Return the attributes that config.json sets."""
    return {ours: config.get(theirs, default) for ours, (theirs, default) in fields.items()}


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
