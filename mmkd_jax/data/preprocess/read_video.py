"""Preprocessing step: read a video."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from PIL import Image

from mmkd_jax.data import animation
from mmkd_jax.data.images import Pictures
from mmkd_jax.data.preprocess.row import Row, check_fields, name_and_row, require
from mmkd_jax.data.videos import Videos
from mmkd_jax.errors import UserError, shown
from mmkd_jax.typing import Count

_WORDS = re.compile(r"[0-9]+|[^0-9]+")


@dataclasses.dataclass(frozen=True)
class ReadVideo:
    """Read videos as uint8 [frames, h, w, 3], sampled evenly.

    Values are paths or contents (bytes) of GIF, WebP or PNG animations, or of films (MP4, MOV, WebM, Matroska or AVI,
    with the extra `video`); paths of folders of images, which are the frames in the order of their names (2.png before
    10.png); sequences of images as `ReadImage` reads them; or uint8 arrays [t, h, w, c].

    Formula: of t frames, the frames ⌊i t / frames⌋ for i = 0 … frames − 1

    Attributes:
        frames: number of frames of the result.
        size: height and width.
        resample: name of Pillow's filter.
        repeat: repeat frames of videos with too few; if False, they are refused.

    Example:
        >>> clip = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1)
        >>> ReadVideo(2, (1, 1))([clip], ["video 0"])[0][:, 0, 0, 0].tolist()
        [0, 2]
    """

    frames: Count
    size: tuple[Count, Count]
    resample: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] = "bilinear"
    repeat: bool = False
    __post_init__ = check_fields

    def __call__(self, values: Sequence[Any], names: Sequence[str]) -> list[np.ndarray]:
        """Return the videos.

        Raises:
            UserError: a value or file is not a video, is damaged, or has too few frames; names row and file.
        """
        return [self._read(x, name) for x, name in zip(values, names, strict=True)]

    def row_spec(self, before: Row) -> Row:
        """Return kind, shape and dtype of each row."""
        require(before, "raw value")
        return Row("video", (self.frames, *self.size, 3), "uint8")

    def _read(self, value, name):
        modality, row = name_and_row(name)
        pictures = Pictures(self.size, resample=Image.Resampling[self.resample.upper()].value)
        if isinstance(value, bytes):
            value = animation.frames(value, name, self.frames, self.repeat)
        elif isinstance(value, str | os.PathLike):
            name = f"{name}, {shown(os.fspath(value), 500)}"
            path = pathlib.Path(value)
            value = _images(path) if path.is_dir() else animation.frames(path, name, self.frames, self.repeat)
            if path.is_dir() and not value:
                raise UserError(f"{name}: the folder has no frames: fetch it again")
        return Videos(pictures, self.frames, modality)([value], self.repeat, rows=[row])[modality][0]


def _images(folder):
    """Return the files of a folder, by the numbers and words in their names."""
    found = [path for path in folder.iterdir() if not path.name.startswith(".")]

    def key(path):
        return [(int(x), "") if x.isdigit() else (-1, x) for x in _WORDS.findall(path.name[:250])]

    return sorted(found, key=lambda path: (key(path), path.name))
