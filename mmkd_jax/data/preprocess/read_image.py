"""Preprocessing step: read an image."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from mmkd_jax.data.picture_file import rgb
from mmkd_jax.data.preprocess.row import Row, check_fields, require
from mmkd_jax.errors import UserError, shown
from mmkd_jax.typing import Count


@dataclasses.dataclass(frozen=True)
class ReadImage:
    """Read images as uint8 [h, w, c], upright.

    Values are paths or contents (bytes) of files, Pillow images, or uint8 arrays [h, w], [h, w, 1], [h, w, 3] or
    [h, w, 4]; `docs/readers.md` lists the formats.

    Attributes:
        channels: 3 for RGB; 1 for gray images, and the luminance of others.
        size: height and width that all images must have; None for any size.
        on_white: composite transparent images onto white; if False, alpha is dropped.

    Example:
        >>> ReadImage(1, size=(1, 2))([np.array([[7, 8]], np.uint8)], ["image 0"])[0].tolist()
        [[[7], [8]]]
    """

    channels: Literal[1, 3] = 3
    size: tuple[Count, Count] | None = None
    on_white: bool = False
    __post_init__ = check_fields

    def __call__(self, values: Sequence[Any], names: Sequence[str]) -> list[np.ndarray]:
        """Return the images.

        Raises:
            UserError: a value or file is not an image, is damaged, or has another size; names row and file.
        """
        return [self._read(x, name) for x, name in zip(values, names, strict=True)]

    def row_spec(self, before: Row) -> Row:
        """Return kind, shape and dtype of each row."""
        require(before, "raw value")
        return Row("image", (*(self.size or (None, None)), self.channels), "uint8")

    def _read(self, value, name):
        picture = rgb(value, name, on_white=self.on_white, files_on_white=self.on_white)
        if self.size is not None and picture.size != self.size[::-1]:
            path = f", {shown(os.fspath(value), 500)}" if isinstance(value, str | os.PathLike) else ""
            raise UserError(
                f"{name}{path}: {picture.height} × {picture.width} pixels; expected {self.size[0]} × {self.size[1]}: "
                "scale it"
            )
        x = np.asarray(picture if self.channels == 3 else picture.convert("L"))
        return x if self.channels == 3 else x[..., None]
