"""Structure of image files, compared with their headers before they are decoded: missing rows, tiles too large."""

import math
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
"""Passes of interlaced PNG: first column and row, and the steps between them."""
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIPS, _SAMPLES, _ROWS = 256, 257, 258, 259, 262, 273, 277, 278
_COUNTS, _PLANES, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _FORMAT = 279, 284, 322, 323, 324, 339
_UNCOMPRESSED, _SEPARATE, _SIGNED, _YCBCR = 1, 2, 2, 6
_MOST = 250_000_000
"""Bytes of a strip or tile of TIFF, which is decoded as a whole."""


def problem(picture: Image.Image, data: bytes) -> str:
    """Return what is wrong about the structure of a file, as the end of a sentence; empty if nothing is.

    Pillow fills rows that a valid PNG or TIFF does not have with black, and decodes some variants of TIFF wrongly.

    Args:
        picture: the opened image, before it is decoded.
        data: content of its file.
    """
    if picture.format == "PNG":
        return _png(data)
    return _tiff(picture) if picture.format == "TIFF" else ""


def scans(data: bytes) -> int:
    """Return the number of scans of a JPEG file's first image; several need memory for all coefficients.

    Segments in front of the first scan, which may contain a thumbnail, are skipped.
    """
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] not in (b"", b"\xda"):
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    end = data.find(b"\xff\xd9", at)
    return data.count(b"\xff\xda", at, len(data) if end < 0 else end)


def _png(data: bytes) -> str:
    chunks = list(_chunks(data))
    header = next(content for name, content in chunks if name == b"IHDR")
    width, height, bits, kind, _, _, interlaced = struct.unpack(">IIBBBBB", header[:13])
    depth = bits * _CHANNELS.get(kind, 1)
    passes = _ADAM7 if interlaced else [(0, 0, 1, 1)]
    sizes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes]
    expected = sum(h * (1 + (w * depth + 7) // 8) for w, h in sizes if w > 0 and h > 0)
    inflate, found = zlib.decompressobj(), 0
    for name, content in chunks:
        while name == b"IDAT" and content and found < expected:
            found += len(inflate.decompress(content, 2**20))
            content = inflate.unconsumed_tail
    return "" if found >= expected else f"is damaged (its pixels have {found:,} of {expected:,} bytes): fetch it again"


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at + 8 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        at += 12 + size


def _tiff(picture: Image.Image) -> str:
    tags = getattr(picture, "tag_v2", {})
    w, h = tags.get(_WIDTH, picture.width), tags.get(_HEIGHT, picture.height)
    samples, separate = tags.get(_SAMPLES, 1), tags.get(_PLANES) == _SEPARATE
    bits = tags.get(_BITS, (1,))
    plain = tags.get(_COMPRESSION, _UNCOMPRESSED) == _UNCOMPRESSED
    pixel = max(bits) * (1 if separate else samples)  # bits in a strip
    if _SIGNED in tags.get(_FORMAT, ()):
        return "has signed integers, whose range is unknown: scale it to 8 bits"
    if separate and plain and max(bits) > 8:
        return f"has {max(bits)} bits per channel in separate planes, which is not supported: convert it"
    if tiled := _TILES in tags:
        side, rows = tags.get(_TILE_WIDTH, w), tags.get(_TILE_HEIGHT, h)
        count = math.ceil(w / side) * math.ceil(h / rows)
    else:
        side, rows = w, min(tags.get(_ROWS, h), h)
        count = math.ceil(h / rows)
    if not plain and side * rows * pixel // 8 > _MOST:
        return f"has strips or tiles of more than {_MOST:,} bytes: write it with smaller ones"
    if tiled and side * rows > 4 * w * h + 2**20:
        return f"has tiles of {side} × {rows} pixels, larger than the image: convert it"
    count, found = count * (samples if separate else 1), len(tags.get(_TILES if tiled else _STRIPS, ()))
    if found < count:
        return f"is damaged (it has {found} of {count} strips or tiles): fetch it again"
    size, whole = sum(tags.get(_COUNTS, ())), h * ((w * pixel + 7) // 8) * (samples if separate else 1)
    if plain and not tiled and _COUNTS in tags and size < whole and tags.get(_PHOTOMETRIC) != _YCBCR:
        return f"is damaged (its pixels have {size:,} of {whole:,} bytes): fetch it again"
    return ""
