"""The pictures of docs/augmentation.md, and its examples of text.

python docs/augmentation.py
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmkd_jax import data
from mmkd_jax.augment import Augmented, audio, images, mixing, text
from mmkd_jax.augment.operations import operations
from mmkd_jax.data.text import ALPHABET
from mmkd_jax.views import Context

FOLDER = pathlib.Path(__file__).parent / "figures"
DRAWS = 5
SEEN = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "nearest"}
HEARD = {"cmap": "magma", "vmin": 0, "vmax": 40, "origin": "lower", "aspect": "auto", "interpolation": "nearest"}

IMAGES = {
    "Crop(4)": images.Crop(4),
    "Flip()": images.Flip(),
    "Colour(\n  brightness=.6,\n  contrast=.6)": images.Colour(brightness=0.6, contrast=0.6),
    "RandAugment(2, 9,\n  fill=0)": images.RandAugment(2, 9, fill=0),
    "Cutout(10,\n  fill=128)": images.Cutout(10, fill=128),
    "Mixup()": mixing.Mixup(),
    "CutMix()": mixing.CutMix(),
}
SOUNDS = {
    "SpecAugment(\n  bands=8,\n  frames=10)": audio.SpecAugment(bands=8, frames=10),
    "Shift(8)": audio.Shift(8),
    "Gain((-20, 20),\n  levels_per_db=.5)": audio.Gain((-20, 20), levels_per_db=0.5, modality="audio"),
    'Mixup(modalities=\n  ("audio",))': mixing.Mixup(modalities=("audio",)),
}
WORDS = {
    "Mask(0.4, mask_id=1)": text.Mask(0.4, mask_id=1),
    "Drop(0.3)": text.Drop(0.3),
    "Swap(1)": text.Swap(1),
    "MixGen(1.0)": mixing.MixGen(1.0),
}


def pairs(at: int, partner: int) -> dict:
    """One example in several slots, and another as its partner."""
    columns = data.load("av_digits", "train").columns
    batch = {k: np.stack([v[at]] * DRAWS) for k, v in columns.items()}
    batch |= {f"partner.{k}": np.stack([v[partner]] * DRAWS) for k, v in columns.items()}
    return batch | {"slot": np.arange(DRAWS, dtype=np.int32)}


def seen(step, batch: dict) -> dict:
    """The batch under one step, in training."""
    return Augmented((step,), seed=1)(batch, Context(0, jax.random.key(0)))


def grid(steps: dict, batch: dict, name: str, draw, path: str) -> None:
    """A row for each step: as it is, its partner where it mixes, slots 0 …"""
    figure = Figure((1.15 * (DRAWS + 2) + 1.3, 1.12 * len(steps) + 0.35), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(steps), DRAWS + 2)
    for axes, (label, step) in zip(panels, steps.items(), strict=True):
        after = np.asarray(seen(step, batch)[name])
        row = [batch[name][0], batch[f"partner.{name}"][0] if getattr(step, "mixes", False) else None, *after]
        for a, x in zip(axes, row, strict=True):
            a.set_xticks([])
            a.set_yticks([])
            if x is None:
                a.axis("off")
            else:
                draw(a, x)
        axes[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8, family="monospace")
    for a, title in zip(panels[0], ["before", "partner", *(f"slot {i}" for i in range(DRAWS))], strict=True):
        a.set_title(title, fontsize=9)
    panels[0][1].set_axis_off()
    figure.savefig(FOLDER / path, dpi=80)


def picture(size: int = 64) -> np.ndarray:
    """A small landscape: sky, sun, hill, house; the data set that we ship has no colours."""
    y, x = np.mgrid[0:size, 0:size] / size
    p = np.stack([110 + 60 * y, 150 + 50 * y, 235 - 30 * y], -1)
    p[(x - 0.78) ** 2 + (y - 0.22) ** 2 < 0.012] = (250, 215, 70)
    hill = y > 0.62 + 0.1 * np.sin(5 * x)
    p[hill] = np.stack([60 + 60 * y, 150 - 40 * y, 50 + 20 * x], -1)[hill]
    p[(np.abs(x - 0.35) < 0.15) & (np.abs(y - 0.62) < 0.13)] = (190, 80, 60)
    p[(np.abs(x - 0.35) < 0.9 * (y - 0.3)) & (y > 0.3) & (y < 0.5)] = (95, 50, 45)
    p[(np.abs(x - 0.35) < 0.04) & (y > 0.6) & (y < 0.75)] = (240, 230, 190)
    return p.astype(np.uint8)


def colours(path: str) -> None:
    """Colour's four parts, and RandAugment's operations."""
    x = picture()
    parts = {n: images.Colour(**{n: s}) for n, s in (("brightness", 0.5), ("contrast", 0.5), ("saturation", 0.9))}
    parts["hue"] = images.Colour(hue=0.15)
    panels = {"before": x}
    batch = {"image": np.stack([x] * 4), "example_id": np.zeros(4, np.int32), "slot": np.arange(4, dtype=np.int32)}
    for n, step in parts.items():
        panels |= {f"Colour\n{n}, slot {i}": np.asarray(seen(step, batch)["image"][i]) for i in (0, 3)}
    after = {n: f(jnp.asarray(x, jnp.int32), jnp.int32(1)) for n, f in operations(9, 128).items() if n != "identity"}
    panels |= {f"RandAugment\n{n}": np.asarray(p).astype(np.uint8) for n, p in after.items()}
    figure = Figure((9.2, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(3, 8).ravel()
    for a in grid:
        a.axis("off")
    for a, (title, p) in zip(grid, panels.items(), strict=False):
        a.imshow(p)
        a.set_title(title, fontsize=8)
    figure.savefig(FOLDER / path, dpi=80)


def noise(path: str) -> None:
    """A made-up waveform under noise at three ratios."""
    t = np.arange(800, dtype=np.float32) / 8000
    wave = np.sin(2 * np.pi * (150 + 1500 * t) * t) * np.exp(-(((t - 0.05) / 0.02) ** 2))
    batch = {"waveform": wave[None], "example_id": np.zeros(1, np.int32), "slot": np.zeros(1, np.int32)}
    figure = Figure((9.2, 1.5), layout="constrained")
    FigureCanvasAgg(figure)
    for a, snr in zip(figure.subplots(1, 4), (None, 20, 10, 0), strict=True):
        y = wave if snr is None else seen(audio.Noise((snr, snr)), batch)["waveform"][0]
        a.plot(t * 1000, y, linewidth=0.6)
        a.set_title("before" if snr is None else f"Noise, {snr} dB", fontsize=9)
        a.set(ylim=(-2.2, 2.2), yticks=[], xlabel="ms")
    figure.savefig(FOLDER / path, dpi=80)


def words(batch: dict) -> None:
    """Prints what becomes of a word."""

    def spelt(ids, mask):
        return "".join(("·_" + ALPHABET)[i] for i in np.asarray(ids)[np.asarray(mask)])

    word = spelt(batch["text.ids"][0], batch["text.mask"][0])
    print(f"before: {word}, partner: {spelt(batch['partner.text.ids'][0], batch['partner.text.mask'][0])}")
    for name, step in WORDS.items():
        out = seen(step, batch)
        print(f"| `text.{name}` |", ", ".join(map(spelt, out["text.ids"], out["text.mask"])), "|")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    labels, letters = (data.load("av_digits", "train").columns[k] for k in ("label", "text.mask"))
    rows = pairs(at=int(np.argmax(letters.sum(1) == 3)), partner=int(np.argmax(labels == 7)))
    grid(IMAGES, rows, "image", lambda a, x: a.imshow(x[..., 0] / (255 if x.dtype == np.uint8 else 1), **SEEN),
         "augmentation-images.png")  # fmt: skip
    grid(SOUNDS, rows, "audio", lambda a, x: a.imshow(x.T * (1 if x.dtype == np.uint8 else 255), **HEARD),
         "augmentation-sounds.png")  # fmt: skip
    colours("augmentation-colours.png")
    noise("augmentation-noise.png")
    words(rows)
