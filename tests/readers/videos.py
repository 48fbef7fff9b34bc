"""Animations of every format, whole and damaged; each is a row of docs/readers.md."""

import io
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from mmkd_jax.data.preprocess import Preprocessing, ReadVideo
from tests.readers.case import Case

LEVELS = [0, 40, 80, 120, 160]
FRAMES = [Image.fromarray(np.full((6, 8, 3), x, np.uint8)) for x in LEVELS]
SAMPLED = np.array([0, 40, 120], np.uint8)


def animation(format: str, frames: list[Image.Image] = FRAMES, **more: Any) -> bytes:
    """Return a file with these frames."""
    file = io.BytesIO()
    frames[0].save(file, format, save_all=True, append_images=frames[1:], **more)
    return file.getvalue()


def written(data: bytes):
    return lambda path: path.write_bytes(data)


def read(path: pathlib.Path) -> np.ndarray:
    """Return the gray level of three frames."""
    return Preprocessing("video", (ReadVideo(3, (6, 8)),))([path])["video"][0, :, 0, 0, 0]


GIF, WEBP = animation("GIF"), animation("WEBP", lossless=True)
CASES = [
    Case("GIF", "animation", written(GIF), SAMPLED),
    Case("GIF", "differences between frames, transparent", written(animation("GIF", optimize=True)), SAMPLED),
    Case("WebP", "animation", written(WEBP), SAMPLED),
    Case("PNG", "animation", written(animation("PNG")), SAMPLED),
    Case("GIF", "still image", written(animation("GIF", FRAMES[:1])), "has 1 frames; expected 3", "refused"),
    Case("GIF", "cut between two frames", written(GIF[: GIF.rindex(b"\x21\xf9")]), "is damaged or cut off", "refused"),
    Case("GIF", "cut within a frame", written(GIF[:-20]), "is damaged or cut off", "refused"),
    Case("WebP", "animation, cut off", written(WEBP[:-20]), "is damaged or cut off", "refused"),
    Case("PNG", "animation, cut off", written(animation("PNG")[:-20]), "is damaged or cut off", "refused"),
    Case("MP4", "damaged", written(b"\0\0\0\x20ftypisom" + bytes(99)), "is damaged or cut off", "refused"),
    Case("other", "an empty video file", written(b""), "is empty; expected a video", "refused"),
]
