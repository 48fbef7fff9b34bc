"""Preprocessing step: resize images."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image

from mmkd_jax.data.images import Pictures
from mmkd_jax.data.preprocess.row import Row, check_fields, name_and_row, require
from mmkd_jax.errors import UserError
from mmkd_jax.typing import Count


@dataclasses.dataclass(frozen=True)
class Resize:
    """Resize images [h, w, c], with Pillow's filters.

    Attributes:
        size: height and width; an int is the length of the shorter side, with which the aspect ratio is kept.
        resample: name of the filter.

    Example:
        >>> Resize((2, 4))([np.zeros((8, 8, 3), np.uint8)], ["image 0"])[0].shape
        (2, 4, 3)
    """

    size: tuple[Count, Count] | Count
    resample: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] = "bilinear"
    __post_init__ = check_fields

    def __call__(self, values: Sequence[np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        """Return the resized images.

        Raises:
            UserError: an image would have too many pixels; names the row.
        """
        return [each_image(x, name, self.size, None, self.resample) for x, name in zip(values, names, strict=True)]

    def row_spec(self, before: Row) -> Row:
        """Return kind, shape and dtype of each row."""
        shape = self.size if isinstance(self.size, tuple) else (None, None)
        return Row("image", (*shape, require(before, "image").shape[-1]), "uint8")


def each_image(
    x: np.ndarray,
    name: str,
    size: tuple[int, int] | int | None,
    crop: tuple[int, int] | None,
    resample: str = "bilinear",
) -> np.ndarray:
    """Resize and crop an image [h, w, c] of one channel or three, as `Pictures` does.

    Args:
        x: the image.
        name: its name and row, used in messages.
        size: height and width, length of the shorter side, or None.
        crop: height and width of the center crop, or None.
        resample: name of Pillow's filter.
    """
    modality, row = name_and_row(name)
    gray = (0.5,) * x.shape[-1]
    pictures = Pictures(size, crop, Image.Resampling[resample.upper()].value, gray, gray, modality)
    try:
        return pictures([x], rows=[row])[modality][0]
    except UserError as error:
        raise UserError(str(error).replace(f"{modality} {row}", name, 1)) from None
