"""Fuzzed files are read or refused, with bounded time and memory; `python -m tests.readers.fuzz --seconds 3600`."""

import os
import subprocess
import sys

import pytest
from PIL import Image

from mmkd_jax.data.images import Pictures
from mmkd_jax.errors import UserError
from tests.readers import fuzz
from tests.readers.pictures import turned


def run(*words):
    command = [sys.executable, "-m", "tests.readers.fuzz", *words]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()})
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    return done.stdout


@pytest.mark.full
@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_damaged_files(target):
    assert "all right" in run("--targets", target)


def test_every_case_needs_little_memory_and_time():
    """Those that are refused, such as bombs, as well: 512 MiB above the size of the file, and ten seconds."""
    assert "cases are right" in run("--cases")


LARGE = {
    "PNG, RGB, turned": ("RGB", "PNG", 61_000_000, {"exif": turned(6)}),
    "PNG, 16-bit gray": ("I;16", "PNG", 61_000_000, {}),
    "JPEG, CMYK, turned": ("CMYK", "JPEG", 48_000_000, {"exif": turned(5)}),
    "JPEG, progressive": ("RGB", "JPEG", 48_000_000, {"progressive": True, "subsampling": 0}),
    "WebP, turned": ("RGBA", "WEBP", 24_000_000, {"exif": turned(5)}),
    "AVIF, turned": ("RGB", "AVIF", 36_000_000, {"exif": turned(5), "speed": 10}),
}


@pytest.mark.slow
@pytest.mark.parametrize("which", LARGE)
def test_the_largest_images_need_little_memory(which, tmp_path):
    """Images of a color and as many pixels as are read: a few hundred KiB that decode to 512 MiB at most."""
    mode, format, pixels, options = LARGE[which]
    side = int(pixels**0.5)
    Image.new(mode, (side, side)).save(tmp_path / "image", format, **options)
    assert "1 of 1 cases are right" in run("--file", str(tmp_path / "image"), "--targets", "images")
    Image.new(mode, (side + 200, side + 200)).save(tmp_path / "image", format, **options)
    with pytest.raises(UserError, match="pixels; expected at most 61,000,000 .max_pixels"):
        Pictures()([tmp_path / "image"])
