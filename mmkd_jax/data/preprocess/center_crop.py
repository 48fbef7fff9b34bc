"""Preprocessing step: crop the center of images."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from mmkd_jax.data.preprocess.resize import each_image
from mmkd_jax.data.preprocess.row import Row, check_fields, require
from mmkd_jax.typing import Count


@dataclasses.dataclass(frozen=True)
class CenterCrop:
    """Crop the center of images [h, w, c], padded with black where an image is smaller.

    Attributes:
        size: height and width.

    Example:
        >>> CenterCrop((1, 1))([np.arange(9, dtype=np.uint8).reshape(3, 3, 1)], ["image 0"])[0].tolist()
        [[[4]]]
    """

    size: tuple[Count, Count]
    __post_init__ = check_fields

    def __call__(self, values: Sequence[np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        """Return the cropped images."""
        return [each_image(x, name, None, self.size) for x, name in zip(values, names, strict=True)]

    def row_spec(self, before: Row) -> Row:
        """Return kind, shape and dtype of each row."""
        return Row("image", (*self.size, require(before, "image").shape[-1]), "uint8")
