"""Animations as frames: GIF, WebP and PNG, read with Pillow, and films."""

import io
import os
import warnings

import numpy as np
from PIL import Image

from mmkd_jax import foreign_files
from mmkd_jax.data import film
from mmkd_jax.data.picture_file import MAX_PIXELS
from mmkd_jax.errors import UserError, shown
from mmkd_jax.looks_like import looks_like, remedy

FORMATS = ("GIF", "WEBP", "PNG")
_LARGEST = 2**29
"""Maximum size of a file, in bytes."""
_MOST_FRAMES = 100_000


def frames(path: str | bytes | os.PathLike, name: str, count: int, repeat: bool = False) -> list[Image.Image]:
    """Return evenly sampled frames of an animation or film, as RGB.

    Formula: of t frames, the frames ⌊i t / count⌋ for i = 0 … count − 1

    Args:
        path: path or content of the file.
        name: name of the video, used in messages; has the path.
        count: number of frames to return.
        repeat: repeat frames of animations with fewer; if False, they are refused.

    Raises:
        UserError: the file has another format, is damaged, cut off or too large, or has too few frames.
    """
    try:
        data = path if isinstance(path, bytes) else foreign_files.read_bytes(path, _LARGEST)
    except UserError as error:
        raise error.within(name.partition(",")[0]) from None
    if film.container(data[:12]):
        return film.frames(data, name, count, repeat)
    known = ", ".join((*FORMATS, "MP4, MOV, WebM, Matroska, AVI"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
            if picture.format == "PNG":
                picture.verify()
                picture = Image.open(io.BytesIO(data), formats=FORMATS)
            if not _WHOLE[picture.format or ""](data):  # Pillow returns the frames in front of a cut
                raise UserError(f"{name} is damaged or cut off: fetch it again")
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


def _whole_gif(data: bytes) -> bool:
    """Return whether the blocks of a GIF file reach its trailer."""
    try:
        at = 13 + _colors(data[10])
        while data[at] != 0x3B:
            if data[at] == 0x2C:  # an image: its header, colors, and the size of its codes
                at += 11 + _colors(data[at + 9])
            elif data[at] == 0x21:
                at += 2
            else:
                return False
            while data[at]:
                at += 1 + data[at]
            at += 1
    except IndexError:
        return False
    return True


def _colors(flags: int) -> int:
    """Return the bytes of a color table."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


_WHOLE = {
    "GIF": _whole_gif,
    "WEBP": lambda data: len(data) >= 8 + int.from_bytes(data[4:8], "little"),
    "PNG": lambda data: True,  # verified by Pillow
}
