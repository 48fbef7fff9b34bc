"""Fuzzed files are read or refused, with bounded time and memory; `python -m tests.readers.fuzz --seconds 3600`."""

import os
import struct
import subprocess
import sys

import pytest
from PIL import Image

from mmkd_jax.data.images import Pictures
from mmkd_jax.errors import UserError
from tests.readers import fuzz, sounds
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
    "JPEG, CMYK, progressive": ("CMYK", "JPEG", 42_000_000, {"progressive": True}),
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("frames", "fields"),
    [
        (100_000_000, {"bits": 8}),
        (20_000_000, {"bits": 8, "rate": 4_000}),
        (100_000_000, {"bits": 16, "rate": 48_000, "channels": 2}),
        (3_000_000, {"bits": 24, "channels": 64}),
    ],
)
def test_the_longest_recordings_need_little_memory(frames, fields, tmp_path):
    """Silence: 512 MiB above the size of the file at most, averaged and resampled; longer recordings are refused."""
    path, frame = tmp_path / "long.wav", fields.get("channels", 1) * fields["bits"] // 8
    head = sounds.wav(b"", size=frames * frame, **fields)
    path.write_bytes(head[:4] + struct.pack("<I", len(head) - 8 + frames * frame) + head[8:])
    os.truncate(path, len(head) + frames * frame)
    assert "1 of 1 cases are right" in run("--file", str(path), "--targets", "sounds")


def test_a_recording_that_needs_far_more_memory_than_its_file(tmp_path):
    """8 bits at 4 kHz: 30 MiB would be 600 MiB at 16 kHz."""
    path, n = tmp_path / "long.wav", 30 * 2**20
    path.write_bytes(sounds.wav(b"", size=n, bits=8, rate=4_000))
    os.truncate(path, path.stat().st_size + n)
    with pytest.raises(UserError, match="long.wav needs 660,602,880 bytes as floats, far more than the file has"):
        sounds.read(path)
