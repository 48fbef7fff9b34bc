"""Images of any file and mode as RGB with 8 bits per channel: the value range is kept, or the image is refused."""

import io
import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from mmkd_jax import foreign_files
from mmkd_jax.data import picture_structure
from mmkd_jax.errors import UserError, shown
from mmkd_jax.looks_like import looks_like, remedy

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names of the formats that are read. Its readers of others may run programs, such as Ghostscript for EPS, or
fill truncated images, as for JPEG 2000.
"""
MAX_PIXELS = 61_000_000
"""Default limit of an image, before and after resizing. Pillow needs 4 bytes per pixel, and as many to turn it: less
than 512 MiB.
"""
_SHARES = {"AVIF": 0.6, "WEBP": 0.4}
_SHARE_OF_JPEG = {(True, False): 0.8, (False, True): 0.8, (True, True): 0.7}
"""Share of the limit for decoders that need more than 8 bytes per pixel; of JPEG by (CMYK, in several scans)."""
_ORIENTATION, _TURN = 0x0112, Image.Transpose
_TURNS = {2: _TURN.FLIP_LEFT_RIGHT, 3: _TURN.ROTATE_180, 4: _TURN.FLIP_TOP_BOTTOM, 5: _TURN.TRANSPOSE}
_TURNS |= {6: _TURN.ROTATE_270, 7: _TURN.TRANSVERSE, 8: _TURN.ROTATE_90}
"""EXIF orientation -> what turns the image upright."""
_TIFF_BITS, _TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


def rgb(
    picture: Any, name: str, max_pixels: int = MAX_PIXELS, on_white: bool = False, files_on_white: bool = False
) -> Image.Image:
    """Return an image as RGB with 8 bits per channel, upright.

    The EXIF orientation is applied. Images with 16 bits per channel keep the high byte. Alpha is dropped, so that
    transparent pixels have the color that the file gives them, or with `on_white`, Pillow images and arrays are
    composited onto white; color profiles are not applied; animations are their first frame.

    Args:
        picture: path or content of a file, Pillow image, or uint8 array [h, w], [h, w, 1], [h, w, 3] or [h, w, 4].
        name: name of the image, used in messages.
        max_pixels: maximum number of pixels.
        on_white: composite Pillow images and arrays onto white; files are not, as in transformers.
        files_on_white: composite files onto white.

    Raises:
        UserError: an unsupported type, shape or format, too many pixels, a damaged or truncated file, or an image
            whose value range is unknown: floats or 32-bit integers.

    Example:
        >>> rgb(np.full((1, 2), 7, np.uint8), "image 0").getpixel((1, 0))
        (7, 7, 7)
    """
    if isinstance(picture, np.ndarray):
        channels = picture.shape[2] if picture.ndim == 3 else 1
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or channels not in (1, 3, 4) or not picture.size:
            known = "uint8 [h, w, 3], or [h, w], [h, w, 1] or [h, w, 4], with values 0 … 255"
            raise UserError(f"{name}: {picture.dtype} of shape {list(picture.shape)}; expected {known}")
        if channels == 4 and on_white:
            picture = _array_on_white(picture)
        picture = Image.fromarray(picture[..., 0] if picture.ndim == 3 and channels == 1 else picture)
    elif isinstance(picture, bytes):
        return _decoded(_opened(picture, name), name, max_pixels, picture, files_on_white)
    elif isinstance(picture, str | os.PathLike):
        name = f"{name}, {shown(os.fspath(picture), 500)}"
        try:
            data = foreign_files.read_bytes(picture)
        except UserError as error:
            raise error.within(name.partition(",")[0]) from None
        return _decoded(_opened(data, name), name, max_pixels, data, files_on_white)
    elif not isinstance(picture, Image.Image):
        raise UserError(f"{name}: {type(picture).__name__}; expected a path, a Pillow image or a uint8 array")
    return _decoded(picture, name, max_pixels, on_white=on_white)


def _opened(data: bytes, name: str) -> Image.Image:
    """Read the header of a file; of PNG, also the checksums, which Pillow does not compare while decoding."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about large images, which `_decoded` refuses
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
            if picture.format == "PNG":
                picture.verify()
                picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.UnidentifiedImageError:
        known = ", ".join(FORMATS)
        if looks_like(data).removeprefix("is ") in FORMATS:
            raise UserError(f"{name} {looks_like(data)}, but damaged or cut off: fetch it again") from None
        what = remedy(data, "convert it, or fetch it again")
        raise UserError(f"{name} {looks_like(data)}; expected an image ({known}): {what}") from None
    except Image.DecompressionBombError as error:
        raise UserError(f"{name} has too many pixels ({_line(error)}): scale it") from None
    except Exception as error:  # Pillow has no common class for damage
        raise UserError(f"{name} is damaged ({_line(error)}): fetch it again") from None
    return picture


def _decoded(
    picture: Image.Image, name: str, max_pixels: int, data: bytes = b"", on_white: bool = False
) -> Image.Image:
    """Decode an opened image, whose file has this data; an image in memory has none."""
    w, h = picture.size
    share = _SHARES.get(picture.format or "", 1.0)
    if picture.format in ("JPEG", "MPO"):
        share = _SHARE_OF_JPEG.get((picture.mode == "CMYK", picture_structure.scans(data) > 1), share)
    if data and w * h > max_pixels * share:
        which = f"; those of this kind may have {share:g} of it" * (share < 1)
        raise UserError(f"{name} has {w} × {h} pixels; expected at most {max_pixels:,} (max_pixels{which}): scale it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if data and (problem := picture_structure.problem(picture, data)):
                raise UserError(problem)
            picture.load()
            about = picture.format, getattr(picture, "tag_v2", {})
            turn = _TURNS.get(picture.getexif().get(_ORIENTATION, 1))
            picture = picture if turn is None else picture.transpose(turn)
    except UserError as error:
        raise UserError(f"{name} {error}") from None
    except Exception as error:
        raise UserError(f"{name} is damaged or cut off ({_line(error)}): fetch it again") from None
    transparent = "A" in picture.getbands() or picture.info.get("transparency") is not None
    if on_white and transparent and not picture.mode.startswith("I"):
        return _on_white(picture)
    return _eight_bits(picture, name, *about)


def _on_white(picture: Image.Image) -> Image.Image:
    """Composite an image onto white, some rows at a time."""
    picture, result = picture.convert("RGBA"), Image.new("RGB", picture.size)
    for top in range(0, picture.height, 256):
        rows = picture.crop((0, top, picture.width, min(top + 256, picture.height)))
        white = Image.new("RGBA", rows.size, (255, 255, 255, 255))
        result.paste(Image.alpha_composite(white, rows).convert("RGB"), (0, top))
    return result


def _array_on_white(x: np.ndarray) -> np.ndarray:
    """Composite an array onto white: (a c + (255 − a) 255) / 255, rounded."""
    alpha = x[..., 3:]
    total = np.multiply(x[..., :3], alpha, dtype=np.uint16)
    total += np.multiply(255 - alpha, 255, dtype=np.uint16)
    total += 127
    return (total // 255).astype(np.uint8)


def _eight_bits(picture: Image.Image, name: str, format: str | None, tags: Mapping[int, Any]) -> Image.Image:
    """Convert any mode to RGB."""
    if picture.mode == "RGB":
        return picture
    if picture.mode in ("La", "RGBa"):  # colors multiplied by alpha
        picture = picture.convert(f"{picture.mode[:-1]}A")
    if picture.mode.startswith("I;16") or (picture.mode == "I" and format in ("PNG", "PPM")):
        bits = tags.get(_TIFF_BITS, (16,))[0]
        x = np.array(picture)
        x >>= bits - 8
        x = x.clip(0, 255, out=x).astype(np.uint8)
        # Pillow inverts such images only if they have 8 bits
        picture = Image.fromarray(255 - x if tags.get(_TIFF_PHOTOMETRIC, 1) == _WHITE_IS_ZERO else x)
    if picture.mode in ("I", "F"):
        kind = "32-bit integers" if picture.mode == "I" else "floats"
        raise UserError(f"{name} has {kind}, whose range is unknown: scale it to 8 bits")
    return picture.convert("RGB")


def _line(error: Exception) -> str:
    return shown((str(error).strip().splitlines() or [type(error).__name__])[0], 160)
