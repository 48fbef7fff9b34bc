"""Configuration of our own Linen modules as JSON, from a closed list of classes."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from mmkd_jax import models
from mmkd_jax.core.model import LinenApply, Model
from mmkd_jax.errors import UserError, choices, shown

_DTYPES = {n: getattr(jnp, n) for n in ("bfloat16", "float16", "float32")}
_PLAIN = (bool, int, float, str)
_DEPTH = 16


def classes() -> dict[str, type]:
    """Return the classes that a configuration may name: those of `mmkd_jax.models` and `mmkd_jax.models.fusion`."""
    named = vars(models) | vars(models.fusion)
    return {n: value for n, value in named.items() if isinstance(value, type) and not n.startswith("_")}


def described(model: Model) -> dict[str, Any] | None:
    """Return the configuration of a model's module; None if the model is not one of our modules as it is.

    Example:
        >>> from mmkd_jax.core.model import linen
        >>> described(linen(models.ImageMLP((8, 4))))
        {'class': 'ImageMLP', 'fields': {'widths': {'tuple': [8, 4]}}}
    """
    try:
        return _described(model.apply.module) if isinstance(model.apply, LinenApply) else None
    except TypeError:  # a class or a value of someone else's
        return None


def built(configuration: Mapping[str, Any]) -> Any:
    """Return the module of a configuration.

    Raises:
        UserError: a class that is not on the list, or a field that it does not have.

    Example:
        >>> built({"class": "ImageMLP", "fields": {"widths": {"tuple": [8, 4]}}}).widths
        (8, 4)
        >>> built({"class": "Popen", "fields": {}})
        Traceback (most recent call last):
        mmkd_jax.errors.UserError: the module's configuration names a class 'Popen', which mmkd_jax.models lacks: ...
    """
    try:
        return _built(configuration, 0)
    except UserError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"the module's configuration is not valid: {shown(str(error))}") from None


def _fields(kind: Any) -> list[str]:
    """Return the fields of a module, dataclass or named tuple that are part of its configuration."""
    if not dataclasses.is_dataclass(kind):
        return list(kind._fields)
    return [f.name for f in dataclasses.fields(kind) if f.init and f.name not in ("parent", "name")]


def _described(value: Any) -> Any:
    if value is None or type(value) in _PLAIN:
        return value
    kind = type(value)
    if classes().get(kind.__name__) is kind:
        return {"class": kind.__name__, "fields": {n: _described(getattr(value, n)) for n in _fields(kind)}}
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return {"tuple": [_described(x) for x in value]}
    if isinstance(value, list):
        return {"list": [_described(x) for x in value]}
    if isinstance(value, Mapping) and all(isinstance(k, str) for k in value):
        return {"dict": {k: _described(x) for k, x in value.items()}}
    for name, dtype in _DTYPES.items():
        if isinstance(value, type | jnp.dtype) and jnp.dtype(value) == jnp.dtype(dtype):
            return {"dtype": name}
    raise TypeError(f"{kind.__name__} has no configuration")


def _built(value: Any, depth: int) -> Any:
    if depth > _DEPTH:
        raise UserError(f"the module's configuration is nested more than {_DEPTH} deep")
    if not isinstance(value, Mapping):
        if value is None or type(value) in _PLAIN:
            return value
        raise UserError(f"the module's configuration has a {type(value).__name__}; expected an object")
    if set(value) == {"class", "fields"}:
        kind = classes().get(value["class"])
        if kind is None:
            raise UserError(
                f"the module's configuration names a class {shown(value['class'])!r}, which mmkd_jax.models lacks: "
                "another version of mmkd_jax wrote it"
            )
        if unknown := {*value["fields"]} - {*_fields(kind)}:
            raise UserError(
                f"the module's configuration gives {value['class']} a field {shown(min(unknown))!r}; it has: "
                f"{choices(_fields(kind))}"
            )
        return kind(**{n: _built(x, depth + 1) for n, x in value["fields"].items()})
    if len(value) == 1:
        ((name, content),) = value.items()
        if name == "tuple":
            return tuple(_built(x, depth + 1) for x in content)
        if name == "list":
            return [_built(x, depth + 1) for x in content]
        if name == "dict":
            return {k: _built(x, depth + 1) for k, x in content.items()}
        if name == "dtype" and content in _DTYPES:
            return _DTYPES[content]
    raise UserError(f"the module's configuration has an object of {shown(choices(value))}")
