"""The image column of a batch, from pictures that are processed one by one."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from mmkd_jax.errors import UserError


def column(
    process: Callable[[int, Any], np.ndarray],
    pictures: Sequence[Any] | np.ndarray,
    modality: str,
    channels: int,
    dtype: Any,
    rows: Sequence[int] | None,
    remedy: str,
) -> dict[str, np.ndarray]:
    """Return the column.

    Args:
        process: `(number, picture) -> [h, w, channels]`.
        pictures: Pillow images, paths or arrays.
        modality: name of the column.
        channels: number of channels.
        dtype: dtype of the column.
        rows: number of each image in messages; None counts them.
        remedy: what to do about images of different sizes.

    Raises:
        UserError: a single image instead of a sequence, or images of different sizes.
    """
    one = isinstance(pictures, np.ndarray) and pictures.ndim < 4
    if one or isinstance(pictures, Image.Image | str | os.PathLike):
        raise UserError(f"{modality}: expected a sequence of images, got a single one: put it in a list")
    named = zip(range(len(pictures)) if rows is None else rows, pictures, strict=True)
    images = [process(i, p) for i, p in named]
    if len({x.shape for x in images}) > 1:
        raise UserError(f"{modality}: images have different sizes, {images[0].shape} and others: {remedy}")
    return {modality: np.stack(images) if images else np.zeros((0, 1, 1, channels), dtype)}
