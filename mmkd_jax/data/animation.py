"""Animations as frames: GIF, WebP and PNG, read with Pillow."""

import io
import os
import warnings

import numpy as np
from PIL import Image

from mmkd_jax import foreign_files
from mmkd_jax.data.picture_file import MAX_PIXELS
from mmkd_jax.errors import UserError, shown
from mmkd_jax.looks_like import looks_like, remedy

FORMATS = ("GIF", "WEBP", "PNG")
_LARGEST = 2**28
"""Maximum size of a file, in bytes."""
_MOST_FRAMES = 100_000


def frames(path: str | os.PathLike, name: str, count: int, repeat: bool = False) -> list[Image.Image]:
    """Return evenly sampled frames of an animation, as RGB.

    Formula: of t frames, the frames ⌊i t / count⌋ for i = 0 … count − 1

    Args:
        path: path of the file.
        name: name of the video, used in messages; has the path.
        count: number of frames to return.
        repeat: repeat frames of animations with fewer; if False, they are refused.

    Raises:
        UserError: the file is no animation that Pillow reads, is damaged or too large, or has too few frames.
    """
    try:
        data = foreign_files.read_bytes(path, _LARGEST)
    except UserError as error:
        raise error.within(name.partition(",")[0]) from None
    known = ", ".join(FORMATS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
            total = getattr(picture, "n_frames", 1)
            if picture.width * picture.height > MAX_PIXELS or total > _MOST_FRAMES:
                raise UserError(
                    f"{name} has {total} frames of {picture.width} × {picture.height} pixels; expected at most "
                    f"{_MOST_FRAMES:,} of {MAX_PIXELS:,} pixels: split or scale it"
                )
            if total < count and not repeat:
                raise UserError(f"{name} has {total} frames; expected {count}: set repeat=True to repeat frames")
            result, wanted = [], (np.arange(count) * total // count).tolist()
            for i in wanted:
                picture.seek(i)
                result.append(picture.convert("RGB"))
    except Image.UnidentifiedImageError:
        what = remedy(data, "convert it, or pass a folder of frames")
        raise UserError(
            f"{name} {looks_like(data)}; expected a video ({known}), or a folder of frames: {what}"
        ) from None
    except UserError:
        raise
    except Exception as error:  # Pillow has no common class for damage
        raise UserError(f"{name} is damaged or cut off ({shown(str(error), 160)}): fetch it again") from None
    return result
