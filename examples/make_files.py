"""Write a folder of pictures, recordings and a table, as in place of your own.

    python examples/make_files.py patterns --rows 1200

Each row has a noisy picture of a pattern, a noisy recording of the sound that belongs to it, and a caption. One
training row in five has a label, one row in ten lacks its picture. All recordings of a device have the same pitch and
loudness; validation and test have other devices.
"""

import argparse
import csv
import pathlib
import wave

import numpy as np
from PIL import Image

RATE = 8_000
PATTERNS = ("flat", "upright", "rising", "falling")
WORDS = {"flat": "calm", "upright": "proud", "rising": "eager", "falling": "tired"}


def picture(draw: np.random.Generator, pattern: str) -> Image.Image:
    """Draw stripes of a random width and phase, in noise."""
    y, x = np.mgrid[:48, :48]
    along = {"flat": y, "upright": x, "rising": (x + y) / 2**0.5, "falling": (x - y) / 2**0.5}[pattern]
    stripes = np.sin(2 * np.pi * (along / draw.uniform(8, 14) + draw.random()))
    return Image.fromarray(np.clip(128 + 40 * stripes + draw.normal(0, 40, (48, 48)), 0, 255).astype(np.uint8))


def recording(draw: np.random.Generator, pattern: str, pitch: float, loudness: float) -> np.ndarray:
    """Return half a second of the sound of a pattern, in noise: a tone that rises, falls, stays or trembles."""
    t = np.arange(RATE // 2) / RATE
    glide = {"rising": t, "falling": -t, "flat": 0 * t, "upright": 0.08 * np.sin(2 * np.pi * 9 * t)}[pattern]
    phase = 2 * np.pi * np.cumsum(pitch * (1 + glide)) / RATE
    tone = np.sin(phase) + 0.4 * np.sin(2 * phase)
    return loudness * (tone + draw.normal(0, 2.5, len(t))) / 12


def write(folder: pathlib.Path, rows: int, seed: int = 0) -> pathlib.Path:
    """Write the files and return the path of the table.

    Args:
        folder: output folder.
        rows: number of rows.
        seed: seed of all random choices.
    """
    draw = np.random.default_rng(seed)
    (folder / "files").mkdir(parents=True, exist_ok=True)
    devices = [(draw.uniform(250, 700), draw.uniform(0.5, 1.0)) for _ in range(30)]
    with open(folder / "table.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["photo", "sound", "caption", "pattern", "device", "split"])
        for i in range(rows):
            pattern = PATTERNS[i % len(PATTERNS)]
            device = int(draw.integers(len(devices)))
            split = "train" if device < 18 else "validation" if device < 24 else "test"
            photo, sound = f"files/{i}.png" if draw.random() > 0.1 else "", f"files/{i}.wav"
            if photo:
                picture(draw, pattern).save(folder / photo)
            samples = np.clip(32_767 * recording(draw, pattern, *devices[device]), -32_768, 32_767).astype("<i2")
            with wave.open(str(folder / sound), "wb") as out:
                out.setparams((1, 2, RATE, 0, "NONE", ""))
                out.writeframes(samples.tobytes())
            told = WORDS[pattern if draw.random() < 0.6 else PATTERNS[draw.integers(len(PATTERNS))]]
            label = pattern if split != "train" or draw.random() < 0.2 else ""
            table.writerow([photo, sound, f"some {told} thing", label, f"device {device}", split])
    return folder / "table.csv"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--rows", type=int, default=1_200)
    options = parser.parse_args()
    print(write(options.folder, options.rows))
