"""Image files, drawn here: what a person sees is a gradient with a dark upper left corner."""

import dataclasses
import io
import struct
import zlib

import numpy as np
from PIL import Image

from mmkd_jax.data.images import Pictures
from tests.readers.case import Case

Y, X = np.mgrid[:24, :32]
COLORS = np.stack([X * 8, Y * 10, (X + Y) * 4], -1).astype(np.uint8)
GRAY = (X * 8).astype(np.uint8)
DEEP = (X * 2_114).astype(np.uint16)  # 16 bits


def gray(x):
    return np.repeat(x[..., None], 3, -1)


def saved(image, format, **options):
    return lambda path: image.save(path, format, **options)


def written(data):
    return lambda path: path.write_bytes(data)


def encoded(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def turned(orientation):
    """EXIF that turns an image."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, bits, kind, rows, interlaced=0):
    """A PNG file by hand."""
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def tiff(data, strips, **more):
    """An uncompressed TIFF file of 32 × 24 pixels by hand; each strip has 24 rows of its share of the data."""
    tags = {"256": [32], "257": [24], "259": [1], "262": [2], "278": [24]} | more
    size = len(data) // strips
    tags |= {"273": [8 + i * size for i in range(strips)], "279": [size] * strips}
    entries, far, at = b"", b"", 8 + len(data)
    at += 6 + 12 * len(tags)
    for tag in sorted(tags, key=int):
        values = struct.pack(f"<{len(tags[tag])}I", *tags[tag])
        if len(tags[tag]) > 1:
            values, far = struct.pack("<I", at + len(far)), far + values
        entries += struct.pack("<HHI", int(tag), 4, len(tags[tag])) + values
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + far


def flipped(data, place):
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def read(path, **options):
    """Read an image in its own size."""
    return dataclasses.replace(Pictures(size=None), **options)([path])["image"][0]


RGB = Image.fromarray(COLORS)
ALPHA = np.dstack([COLORS, np.where(X < 16, 0, 255).astype(np.uint8)])
PALETTE = Image.fromarray(GRAY // 64).convert("P")
PALETTE.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9] + [0] * 756)
INDEXED = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], np.uint8)[GRAY // 64]
CMYK = RGB.convert("CMYK")
PHOTO = np.asarray(Image.open(io.BytesIO(encoded(RGB, "JPEG", quality=95))))
DEEP_ROWS = b"".join(b"\0" + row.astype(">u2").tobytes() for row in DEEP)
DEEP_RGB = np.stack([DEEP, DEEP // 2, DEEP // 3], -1)
DEEP_RGB_ROWS = b"".join(b"\0" + row.astype(">u2").tobytes() for row in DEEP_RGB)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
TURNS = {  # EXIF orientation -> pixels in the file of an image that looks like COLORS
    2: COLORS[:, ::-1],
    3: COLORS[::-1, ::-1],
    4: COLORS[::-1],
    5: COLORS.transpose(1, 0, 2),
    6: COLORS.transpose(1, 0, 2)[::-1],
    7: COLORS.transpose(1, 0, 2)[::-1, ::-1],
    8: COLORS.transpose(1, 0, 2)[:, ::-1],
}


def exif_case(format, orientation, **options):
    image = Image.fromarray(np.ascontiguousarray(TURNS[orientation]))
    make = saved(image, format, exif=turned(orientation), **options)
    return Case(format, f"EXIF orientation {orientation}", make, COLORS, "upright")


def frames(format, **options):
    other = Image.fromarray(COLORS[::-1])
    return saved(RGB, format, save_all=True, append_images=[other], **options)


CASES = [
    Case("PNG", "RGB", saved(RGB, "PNG"), COLORS),
    Case("PNG", "gray", saved(Image.fromarray(GRAY), "PNG"), gray(GRAY)),
    Case("PNG", "1 bit", saved(Image.fromarray(GRAY > 99), "PNG"), gray((GRAY > 99) * np.uint8(255))),
    Case("PNG", "16-bit gray", written(png(32, 24, 16, 0, DEEP_ROWS)), gray((DEEP >> 8).astype(np.uint8)), "high byte"),
    Case(
        "PNG",
        "16-bit RGB",
        written(png(32, 24, 16, 2, DEEP_RGB_ROWS)),
        (DEEP_RGB >> 8).astype(np.uint8),
        "high byte",
    ),
    Case("PNG", "palette", saved(PALETTE, "PNG"), INDEXED),
    Case("PNG", "palette with a transparent color", saved(PALETTE, "PNG", transparency=1), INDEXED, "alpha dropped"),
    Case("PNG", "alpha", saved(Image.fromarray(ALPHA), "PNG"), COLORS, "alpha dropped"),
    Case("PNG", "gray with alpha", saved(Image.fromarray(GRAY).convert("LA"), "PNG"), gray(GRAY), "alpha dropped"),
    exif_case("PNG", 6),
    Case("PNG", "a bit flipped in the pixels", written(flipped(encoded(RGB, "PNG"), 60)), "is damaged", "refused"),
    Case(
        "PNG",
        "rows missing in the pixels",
        written(png(32, 24, 8, 0, bytes(33 * 20))),
        "is damaged .its pixels have 660 of 792 bytes",
        "refused",
    ),
    Case("PNG", "interlaced", written(png(1, 1, 8, 0, bytes(2), interlaced=1)), np.zeros((1, 1, 3), np.uint8)),
    Case(
        "PNG",
        "1 × 60,000 pixels, size=224",
        written(png(1, 60_000, 8, 0, bytes(120_000))),
        "crop it",
        "refused",
        {"size": 224},
    ),
    Case(
        "PNG",
        "60,000 × 60,000 pixels",
        written(png(60_000, 60_000, 1, 0, b"")),
        "has too many pixels .*3600000000 pixels",
        "refused",
    ),
    Case("JPEG", "RGB", saved(RGB, "JPEG", quality=95), PHOTO),
    Case("JPEG", "progressive", saved(RGB, "JPEG", quality=95, progressive=True), PHOTO),
    Case(
        "JPEG",
        "gray",
        saved(Image.fromarray(GRAY), "JPEG", quality=95),
        gray(np.asarray(Image.open(io.BytesIO(encoded(Image.fromarray(GRAY), "JPEG", quality=95))))),
    ),
    Case(
        "JPEG",
        "CMYK",
        saved(CMYK, "JPEG", quality=95),
        np.asarray(Image.open(io.BytesIO(encoded(CMYK, "JPEG", quality=95))).convert("RGB")),
        "converted without its profile",
    ),
    *(
        Case(
            "JPEG",
            f"EXIF orientation {n}",
            saved(Image.fromarray(np.ascontiguousarray(x)), "JPEG", quality=95, exif=turned(n)),
            f"upright {n}",
            "upright",
        )
        for n, x in TURNS.items()
    ),
    Case("JPEG", "several images (MPO)", frames("MPO", quality=95), PHOTO, "the first"),
    Case("GIF", "palette", saved(PALETTE, "GIF"), INDEXED),
    Case(
        "GIF",
        "animated",
        saved(PALETTE, "GIF", save_all=True, append_images=[PALETTE.rotate(180)]),
        INDEXED,
        "the first frame",
    ),
    Case("BMP", "RGB", saved(RGB, "BMP"), COLORS),
    Case("BMP", "palette", saved(PALETTE, "BMP"), INDEXED),
    Case("WebP", "lossless", saved(RGB, "WEBP", lossless=True), COLORS),
    Case("WebP", "alpha", saved(Image.fromarray(ALPHA), "WEBP", lossless=True, exact=True), COLORS, "alpha dropped"),
    Case("WebP", "animated", frames("WEBP", lossless=True), COLORS, "the first frame"),
    exif_case("WEBP", 8, lossless=True)._replace(format="WebP"),
    Case("TIFF", "RGB", saved(RGB, "TIFF"), COLORS),
    Case("TIFF", "LZW", saved(RGB, "TIFF", compression="tiff_lzw"), COLORS),
    Case("TIFF", "16-bit gray", saved(Image.fromarray(DEEP), "TIFF"), gray((DEEP >> 8).astype(np.uint8)), "high byte"),
    Case(
        "TIFF",
        "16-bit gray, white is 0",
        saved(Image.fromarray(DEEP), "TIFF", tiffinfo={262: 0}),
        gray(255 - (DEEP >> 8).astype(np.uint8)),
        "high byte",
    ),
    Case(
        "TIFF",
        "floats",
        saved(Image.fromarray(X.astype(np.float32)), "TIFF"),
        "floats, whose range is unknown",
        "refused",
    ),
    Case(
        "TIFF",
        "32-bit integers",
        saved(Image.fromarray(X.astype(np.int32)), "TIFF"),
        "signed integers, whose range is unknown",
        "refused",
    ),
    Case(
        "TIFF",
        "signed integers of 8 bits",
        saved(Image.fromarray(GRAY), "TIFF", tiffinfo={339: 2}),
        "signed integers, whose range is unknown",
        "refused",
    ),
    Case("TIFF", "by hand", written(tiff(COLORS.tobytes(), 1, **{"258": [8] * 3, "277": [3]})), COLORS),
    Case(
        "TIFF",
        "16 bits per channel",
        written(tiff(DEEP_RGB.astype("<u2").tobytes(), 1, **{"258": [16] * 3, "277": [3]})),
        (DEEP_RGB >> 8).astype(np.uint8),
        "high byte",
    ),
    Case(
        "TIFF",
        "16 bits per channel in separate planes",
        written(
            tiff(DEEP_RGB.transpose(2, 0, 1).astype("<u2").tobytes(), 3, **{"258": [16] * 3, "277": [3], "284": [2]})
        ),
        "16 bits per channel in separate planes, which is not supported",
        "refused",
    ),
    Case(
        "TIFF",
        "a strip of two missing",
        written(tiff(COLORS.tobytes(), 1, **{"258": [8] * 3, "277": [3], "278": [12]})),
        "is damaged .it has 1 of 2 strips or tiles",
        "refused",
    ),
    Case(
        "TIFF",
        "a tile of 32,768 × 30,720 pixels",
        written(tiff(COLORS.tobytes(), 1, **{"258": [8] * 3, "277": [3], "322": [32768], "323": [30720], "324": [8]})),
        "has tiles of 32768 × 30720 pixels, larger than the image",
        "refused",
    ),
    exif_case("TIFF", 3),
    Case("PPM", "RGB", saved(RGB, "PPM"), COLORS),
    Case(
        "PPM",
        "16-bit gray",
        written(b"P5 32 24 65535\n" + DEEP.astype(">u2").tobytes()),
        gray((DEEP >> 8).astype(np.uint8)),
        "high byte",
    ),
    Case(
        "AVIF",
        "RGB",
        saved(RGB, "AVIF", quality=100, subsampling="4:4:4"),
        np.asarray(Image.open(io.BytesIO(encoded(RGB, "AVIF", quality=100, subsampling="4:4:4")))),
    ),
    Case("other", "JPEG 2000", saved(RGB, "JPEG2000"), "is JPEG 2000; expected an image", "refused"),
    Case("other", "EPS", written(EPS), "is PostScript; expected an image", "refused"),
    Case("other", "SVG", written(b'<svg xmlns="http://www.w3.org/2000/svg"/>'), "is SVG; expected an image", "refused"),
    Case("other", "a web page named .jpg", written(b"<!DOCTYPE html><title>404</title>"), "is a web page", "refused"),
    Case("other", "an empty file", written(b""), "is empty; expected an image", "refused"),
]
CASES += [
    Case(
        f,
        "cut off",
        written(data[: len(data) * 2 // 3]),
        "is damaged|but damaged or cut off: fetch it again",
        "refused",
    )
    for f, data in (
        ("PNG", encoded(RGB, "PNG")),
        ("JPEG", encoded(RGB, "JPEG")),
        ("GIF", encoded(RGB, "GIF")),
        ("BMP", encoded(RGB, "BMP")),
        ("WebP", encoded(RGB, "WEBP", lossless=True)),
        ("TIFF", encoded(RGB, "TIFF")),
        ("PPM", encoded(RGB, "PPM")),
        ("AVIF", encoded(RGB, "AVIF")),
    )
]


def upright(orientation):
    """The pixels of a JPEG with this orientation, turned by hand."""
    image = Image.fromarray(np.ascontiguousarray(TURNS[orientation]))
    x = np.asarray(Image.open(io.BytesIO(encoded(image, "JPEG", quality=95))))
    if orientation in (5, 6, 7, 8):
        x = {5: x, 6: x[::-1], 7: x[::-1, ::-1], 8: x[:, ::-1]}[orientation].transpose(1, 0, 2)
        return x
    return {2: x[:, ::-1], 3: x[::-1, ::-1], 4: x[::-1]}[orientation]


CASES = [
    c._replace(expected=upright(int(c.variant[-1]))) if str(c.expected).startswith("upright") else c for c in CASES
]
