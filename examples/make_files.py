"""Write a folder of pictures, recordings and a table, as in place of your own.

    python examples/make_files.py shapes --rows 1200

Each row has a noisy picture of a shape, a noisy recording of the sound that belongs to it, and a caption. One training
row in ten has a label, one row in ten lacks its picture. All recordings of a device have the same pitch and loudness;
validation and test have other devices.
"""

import argparse
import csv
import pathlib
import wave

import numpy as np
from PIL import Image, ImageDraw

RATE = 8_000
SHAPES = ("circle", "square", "triangle", "cross")
WORDS = {"circle": "round", "square": "even", "triangle": "pointed", "cross": "thin"}


def picture(draw: np.random.Generator, shape: str) -> Image.Image:
    """Draw a shape at a random position, in noise."""
    image = Image.new("L", (48, 48), int(draw.integers(60, 120)))
    pen, (x, y), size, gray = ImageDraw.Draw(image), draw.integers(14, 34, 2), int(draw.integers(6, 12)), 200
    x, y = int(x), int(y)
    box = (x - size, y - size, x + size, y + size)
    match shape:
        case "circle":
            pen.ellipse(box, outline=gray, width=3)
        case "square":
            pen.rectangle(box, outline=gray, width=3)
        case "triangle":
            pen.polygon([(x, y - size), (x - size, y + size), (x + size, y + size)], outline=gray, width=3)
        case _:
            pen.line(box, fill=gray, width=3)
            pen.line((x - size, y + size, x + size, y - size), fill=gray, width=3)
    noisy = np.asarray(image) + draw.normal(0, 20, (48, 48))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def recording(draw: np.random.Generator, shape: str, pitch: float, loudness: float) -> np.ndarray:
    """Return half a second of the sound of a shape, in noise: a tone that rises, falls, stays or trembles."""
    t = np.arange(RATE // 2) / RATE
    glide = {"circle": t, "square": -t, "triangle": 0 * t, "cross": 0.08 * np.sin(2 * np.pi * 9 * t)}[shape]
    phase = 2 * np.pi * np.cumsum(pitch * (1 + glide)) / RATE
    tone = np.sin(phase) + 0.4 * np.sin(2 * phase)
    return loudness * (tone + draw.normal(0, 5, len(t))) / 20


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
        table.writerow(["photo", "sound", "caption", "shape", "device", "split"])
        for i in range(rows):
            shape = SHAPES[i % len(SHAPES)]
            device = int(draw.integers(len(devices)))
            split = "train" if device < 18 else "validation" if device < 24 else "test"
            photo, sound = f"files/{i}.png" if draw.random() > 0.1 else "", f"files/{i}.wav"
            if photo:
                picture(draw, shape).save(folder / photo)
            samples = np.clip(32_767 * recording(draw, shape, *devices[device]), -32_768, 32_767).astype("<i2")
            with wave.open(str(folder / sound), "wb") as out:
                out.setparams((1, 2, RATE, 0, "NONE", ""))
                out.writeframes(samples.tobytes())
            told = WORDS[shape if draw.random() < 0.6 else SHAPES[draw.integers(len(SHAPES))]]
            label = shape if split != "train" or draw.random() < 0.1 else ""
            table.writerow([photo, sound, f"some {told} thing", label, f"device {device}", split])
    return folder / "table.csv"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--rows", type=int, default=1_200)
    options = parser.parse_args()
    print(write(options.folder, options.rows))
