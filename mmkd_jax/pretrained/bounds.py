"""Bounds of an encoder's sizes by the tensors of its file, before anything is traced or allocated for them."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmkd_jax.errors import UserError
from mmkd_jax.pretrained.attributes import attributes

SIDE, AREA, GROUPS = 1024, 1024**2, 1024
"""Sizes and products of sizes that need no tensor: shapes are compared later, and name what differs."""

_SIDES = ("embed_dim", "mlp_dim", "vocabulary", "length", "types", "mels", "frames", "channels", "width", "embedding")
_SIDES += ("stem", "reach", "pooled", "head", "patch", "registers", "divisor", "least", "expansion", "widths", "wide")
_SIDES += ("convolutions", "kernels")
_TENSORS = {"num_layers": 8, "layers": 4, "depths": 4, "widths": 1, "convolutions": 1, "position_layers": 2}
"""Attributes that count layers, and the least number of tensors of each."""


def check_sizes(module: Any, tensors: Mapping[str, np.ndarray]) -> None:
    """Refuse encoders that are too large for their tensors.

    Args:
        module: encoders, as built from config.json.
        tensors: tensors of the file.

    Raises:
        UserError: an encoder has more layers than the tensors are enough for, or a size that no tensor has.

    Example:
        >>> from mmkd_jax.models import Encoders, Vit
        >>> check_sizes(Encoders({"image": Vit()}), {"kernel": np.zeros((8, 8))})
        Traceback (most recent call last):
        mmkd_jax.errors.UserError: config.json has num_layers=12, which needs 96 tensors: the weights have 1
    """
    side = max((SIDE, *(n for x in tensors.values() for n in x.shape)))
    area = max((AREA, *(x.size for x in tensors.values())))
    for encoder in module.encoders.values():
        values = attributes(encoder)
        _check_layers(values, len(tensors))
        for name in _SIDES:
            sizes = values.get(name)
            for size in sizes if isinstance(sizes, tuple | list) else (sizes,):
                _check(name, size or 0, side)
        _check("length × embed_dim", (values.get("length") or 0) * (values.get("embed_dim") or 0), area)
        _check("groups", values.get("groups") or 0, GROUPS)
        if "window" in values and "patch" in values:  # Swin's: the number of patches needs no tensor
            _check("(2 window_size - 1)²", (2 * values["window"] - 1) ** 2, side)
        elif "patch" in values and "size" in values:
            _check_patches(values, side, area)
    _check("projection_dim", getattr(module, "width", None) or 0, side)


def _check(name, size, most):
    if size > most:
        raise UserError(f"config.json has {name}={size}, but the tensors allow {most} at most")


def _check_layers(values, count):
    needed = {n: values[n] for n in _TENSORS if n in values}
    if values.get("shared"):  # ALBERT: all layers have the tensors of one
        needed["num_layers"] = 1
    least = _TENSORS | (
        {"num_layers": 6} if "norm_bias" in values else {}
    )  # ModernBERT: stacked projections, no biases
    for name, layers in needed.items():
        layers = len(layers) if name in ("widths", "convolutions") else sum(layers) if name == "depths" else layers
        _check_count(name, layers, least[name] * layers, count)
    if "deep" in values:
        _check_count("depth_coefficient", values["deep"], 4 * math.ceil(16 * values["deep"]), count)


def _check_count(name, layers, least, count):
    if least > count:
        raise UserError(f"config.json has {name}={layers}, which needs {least} tensors: the weights have {count}")


def _check_patches(values, side, area):
    patch, size = values["patch"], values["size"]
    stride = values.get("stride") or patch
    places = [(n - p) // s + 1 for n, p, s in zip(size, patch, stride, strict=True)]
    if min(places) < 1:
        raise UserError(f"config.json has images of {size}, smaller than a patch of {patch}")
    _check("number of patches", math.prod(places), side)
    _check("size × patch", max(n * p for n, p in zip(places, patch, strict=True)), area)
