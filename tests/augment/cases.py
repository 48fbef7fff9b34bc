"""Rows of every modality, and every augmentation on them."""

import jax
import numpy as np

from mmkd_jax.augment import Compose, MixLabels, audio, images, mixing, modalities, text, video
from mmkd_jax.core.model import StepContext

ROWS, CLASSES = 8, 3
MIXING = dict(classes=CLASSES)
CONTEXT = StepContext(0, jax.random.key(0))


def rows(n: int = ROWS, seed: int = 0, partners: bool = True) -> dict:
    """Rows with all modalities; some lack sound (which is then NaN or nonsense), some a label; masks of all lengths."""
    draw = np.random.default_rng(seed)

    def length(most):
        return np.arange(most)[None] < draw.integers(2, most + 1, n)[:, None]

    batch = {
        "image": draw.integers(0, 256, (n, 12, 10, 3)).astype(np.uint8),
        "gray": draw.random((n, 8, 8, 1)).astype(np.float32),
        "audio": draw.integers(0, 41, (n, 16, 6)).astype(np.uint8),
        "audio.mask": length(16),
        "levels": draw.normal(size=(n, 16, 6)).astype(np.float32),
        "waveform": draw.normal(size=(n, 50)).astype(np.float32),
        "waveform.mask": length(50),
        "text.ids": draw.integers(4, 30, (n, 7)).astype(np.int32),
        "text.mask": length(7),
        "tags": draw.integers(0, 5, (n, 7)).astype(np.int32),
        "video": draw.integers(0, 256, (n, 6, 8, 8, 3)).astype(np.uint8),
        "video.mask": length(6),
        "label": draw.integers(0, CLASSES, n).astype(np.int32),
        "labelled": draw.random(n) < 0.6,
        "present.audio": draw.random(n) < 0.7,
        "present.levels": np.arange(n) % 4 != 3,
        "example_id": draw.permutation(1000)[:n].astype(np.int32),
    }
    batch["text.ids"] *= batch["text.mask"]
    batch["levels"][~batch["present.levels"]] = np.nan
    if partners:
        other = rows(n, seed + 1, False)
        del other["view_index"]
        batch |= {f"partner.{k}": v for k, v in other.items()}
    return batch | {"view_index": draw.integers(0, 50, n).astype(np.int32)}


STEPS = {
    "crop": images.RandomCrop(2),
    "crop, reflected": images.RandomCrop(3, mode="reflect", modality="gray"),
    "flip": images.RandomFlip(),
    "cutout": images.Cutout(5, fill=7),
    "color": images.ColorJitter(0.4, 0.4, 0.4, 0.1),
    "color of floats": images.ColorJitter(0.4, 0.4, modality="gray"),
    "randaugment": images.RandAugment(2, 9),
    "randaugment of floats": images.RandAugment(3, 5, modality="gray"),
    "crop of videos": images.RandomCrop(2, modality="video"),
    "color of videos": images.ColorJitter(0.4, 0.4, 0.4, 0.1, modality="video"),
    "randaugment of videos": images.RandAugment(2, 9, modality="video"),
    "specaugment": audio.SpecAugment(bands=3, frames=6, frame_blocks=2, share=0.5),
    "specaugment of floats": audio.SpecAugment(bands=3, frames=6, modality="levels"),
    "noise": audio.Noise((0, 20)),
    "shift": audio.Shift(5, fill=3),
    "shift of waveforms": audio.Shift(9, modality="waveform"),
    "gain": audio.Gain((-6, 6)),
    "gain of levels": audio.Gain((-6, 6), levels_per_db=0.5, modality="audio"),
    "mask": text.Mask(0.4, mask_id=3, keep=(5,)),
    "drop": text.TokenDropout(0.4, along=("tags",)),
    "swap": text.Swap(2, along=("tags",)),
    "clip": video.RandomCrop(3, strides=(1, 2)),
    "modality dropout": modalities.ModalityDropout(0.4, ("image", "audio")),
    "mixup": mixing.Mixup(1.0, **MIXING),
    "mixup of floats": mixing.Mixup(0.3, modalities=("levels",), **MIXING),
    "paired mixup": mixing.Mixup(1.0, modalities=("image", "audio"), **MIXING),
    "cutmix": mixing.CutMix(1.0, **MIXING),
    "mixgen": mixing.MixGen(0.7, skip=(5,), **MIXING),
    "labels": MixLabels(CLASSES, modality="audio"),
    "cropped, mixed": (images.RandomCrop(2), images.RandomFlip(), images.ColorJitter(0.4), mixing.Mixup(**MIXING)),
    "heard": (audio.Gain(), audio.Noise((5, 5)), audio.Shift(4, modality="waveform")),
}


def chain(name: str, seed: int = 0) -> Compose:
    """A case as a chain."""
    steps = STEPS[name]
    return Compose(steps if isinstance(steps, tuple) else (steps,), seed)


def compiled(augmented: Compose):
    """batch -> the changed columns, in NumPy."""
    program = jax.jit(lambda batch: augmented(batch, CONTEXT))

    def run(batch):
        return {k: np.asarray(v) for k, v in program(batch).items()}

    return run


def take(batch: dict, at) -> dict:
    """Some rows, in some order."""
    return {k: v[at] for k, v in batch.items()}


def same(a: dict, b: dict) -> None:
    """Bit for bit, NaN included."""
    assert a.keys() == b.keys()
    for k in a:
        assert a[k].dtype == b[k].dtype and a[k].shape == b[k].shape, k
        assert a[k].tobytes() == b[k].tobytes(), k
