"""Draw the figures of docs/augmentation.md and print its text examples.

python docs/augmentation.py
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import mmkd_jax as mmkd

FOLDER = pathlib.Path(__file__).parent / "figures"
DRAWS = 5
SEEN = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "nearest"}
HEARD = {"cmap": "magma", "vmin": 0, "vmax": 40, "origin": "lower", "aspect": "auto", "interpolation": "nearest"}

IMAGES = {
    "RandomCrop(4)": mmkd.augment.images.RandomCrop(4),
    "RandomFlip()": mmkd.augment.images.RandomFlip(),
    "ColorJitter(\n  brightness=.6,\n  contrast=.6)": mmkd.augment.images.ColorJitter(brightness=0.6, contrast=0.6),
    "RandAugment(2, 9,\n  fill=0)": mmkd.augment.images.RandAugment(2, 9, fill=0),
    "Cutout(10,\n  fill=128)": mmkd.augment.images.Cutout(10, fill=128),
    "Mixup()": mmkd.augment.mixing.Mixup(),
    "CutMix()": mmkd.augment.mixing.CutMix(),
}
SOUNDS = {
    "SpecAugment(\n  bands=8,\n  frames=10)": mmkd.augment.audio.SpecAugment(bands=8, frames=10),
    "Shift(8)": mmkd.augment.audio.Shift(8),
    "Gain((-20, 20),\n  levels_per_db=.5)": mmkd.augment.audio.Gain((-20, 20), levels_per_db=0.5, modality="audio"),
    'Mixup(modalities=\n  ("audio",))': mmkd.augment.mixing.Mixup(modalities=("audio",)),
}
WORDS = {
    "text.Mask(0.4, mask_id=1)": mmkd.augment.text.Mask(0.4, mask_id=1),
    "text.TokenDropout(0.3)": mmkd.augment.text.TokenDropout(0.3),
    "text.Swap(1)": mmkd.augment.text.Swap(1),
    "mixing.MixGen(1.0)": mmkd.augment.mixing.MixGen(1.0),
}


def pairs(at: int, partner: int) -> dict:
    """Return one example repeated for several views, with another one as its partner."""
    columns = mmkd.data.load("av_digits", "train").columns
    batch = {k: np.stack([v[at]] * DRAWS) for k, v in columns.items()}
    batch |= {f"partner.{k}": np.stack([v[partner]] * DRAWS) for k, v in columns.items()}
    return batch | {"view_index": np.arange(DRAWS, dtype=np.int32)}


def seen(step, batch: dict) -> Mapping:
    """Apply one augmentation to the batch, in training mode."""
    return mmkd.augment.Compose((step,), seed=1)(batch, mmkd.StepContext(0, jax.random.key(0)))


def grid(steps: dict, batch: dict, name: str, draw, path: str) -> None:
    """Draw one row per augmentation: the original, its partner if the augmentation mixes rows, views 0 …"""
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
    for a, title in zip(panels[0], ["before", "partner", *(f"view {i}" for i in range(DRAWS))], strict=True):
        a.set_title(title, fontsize=9)
    panels[0][1].set_axis_off()
    figure.savefig(FOLDER / path, dpi=80)


def picture(size: int = 64) -> np.ndarray:
    """Draw a small landscape with sky, sun, hill and house, because AV-digits has no color images."""
    y, x = np.mgrid[0:size, 0:size] / size
    p = np.stack([110 + 60 * y, 150 + 50 * y, 235 - 30 * y], -1)
    p[(x - 0.78) ** 2 + (y - 0.22) ** 2 < 0.012] = (250, 215, 70)
    hill = y > 0.62 + 0.1 * np.sin(5 * x)
    p[hill] = np.stack([60 + 60 * y, 150 - 40 * y, 50 + 20 * x], -1)[hill]
    p[(np.abs(x - 0.35) < 0.15) & (np.abs(y - 0.62) < 0.13)] = (190, 80, 60)
    p[(np.abs(x - 0.35) < 0.9 * (y - 0.3)) & (y > 0.3) & (y < 0.5)] = (95, 50, 45)
    p[(np.abs(x - 0.35) < 0.04) & (y > 0.6) & (y < 0.75)] = (240, 230, 190)
    return p.astype(np.uint8)


def colors(path: str) -> None:
    """Draw the four components of ColorJitter and the operations of RandAugment."""
    x = picture()
    strengths: dict[str, Any] = {"brightness": 0.5, "contrast": 0.5, "saturation": 0.9}
    components = {n: mmkd.augment.images.ColorJitter(**{n: s}) for n, s in strengths.items()}
    components["hue"] = mmkd.augment.images.ColorJitter(hue=0.15)
    panels = {"before": x}
    batch = {"image": np.stack([x] * 4), "example_id": np.zeros(4, np.int32)}
    batch |= {"view_index": np.arange(4, dtype=np.int32)}
    for n, step in components.items():
        panels |= {f"ColorJitter\n{n}, view {i}": np.asarray(seen(step, batch)["image"][i]) for i in (0, 3)}
    operations = mmkd.augment.operations.operations(9, 128)
    after = {n: f(jnp.asarray(x, jnp.int32), jnp.int32(1)) for n, f in operations.items() if n != "identity"}
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
    """Draw a synthetic waveform with noise at three signal-to-noise ratios."""
    t = np.arange(800, dtype=np.float32) / 8000
    wave = np.sin(2 * np.pi * (150 + 1500 * t) * t) * np.exp(-(((t - 0.05) / 0.02) ** 2))
    batch = {"waveform": wave[None], "example_id": np.zeros(1, np.int32), "view_index": np.zeros(1, np.int32)}
    figure = Figure((9.2, 1.5), layout="constrained")
    FigureCanvasAgg(figure)
    for a, snr in zip(figure.subplots(1, 4), (None, 20, 10, 0), strict=True):
        y = wave if snr is None else seen(mmkd.augment.audio.Noise((snr, snr)), batch)["waveform"][0]
        a.plot(t * 1000, y, linewidth=0.6)
        a.set_title("before" if snr is None else f"Noise, {snr} dB", fontsize=9)
        a.set(ylim=(-2.2, 2.2), yticks=[], xlabel="ms")
    figure.savefig(FOLDER / path, dpi=80)


def words(batch: dict) -> None:
    """Print the table of text augmentations."""

    def spelt(ids, mask):
        return "".join(("·_" + mmkd.data.text.ALPHABET)[i] for i in np.asarray(ids)[np.asarray(mask)])

    word = spelt(batch["text.ids"][0], batch["text.mask"][0])
    print(f"before: {word}, partner: {spelt(batch['partner.text.ids'][0], batch['partner.text.mask'][0])}")
    for name, step in WORDS.items():
        out = seen(step, batch)
        print(f"| `{name}` |", ", ".join(map(spelt, out["text.ids"], out["text.mask"])), "|")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    labels, letters = (mmkd.data.load("av_digits", "train").columns[k] for k in ("label", "text.mask"))
    rows = pairs(at=int(np.argmax(letters.sum(1) == 3)), partner=int(np.argmax(labels == 7)))
    grid(IMAGES, rows, "image", lambda a, x: a.imshow(x[..., 0] / (255 if x.dtype == np.uint8 else 1), **SEEN),
         "augmentation-images.png")  # fmt: skip
    grid(SOUNDS, rows, "audio", lambda a, x: a.imshow(x.T * (1 if x.dtype == np.uint8 else 255), **HEARD),
         "augmentation-sounds.png")  # fmt: skip
    colors("augmentation-colors.png")
    noise("augmentation-noise.png")
    words(rows)
