"""What Pillow, transformers and soundfile do with the same files: python -m tests.readers.references.

Writes tests/readers/references.json, from which the page is made. Needs transformers (extra `parity`) and soundfile.
"""

import importlib
import json
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from tests.readers import pictures, sounds, texts, weights
from tests.readers.case import Case

FILE = pathlib.Path(__file__).with_name("references.json")


def pillow(path: pathlib.Path, case: Case) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def transformers_image(path: pathlib.Path, case: Case) -> np.ndarray:
    from transformers.image_utils import load_image

    return np.asarray(load_image(str(path)))


def soundfile(path: pathlib.Path, case: Case) -> np.ndarray:
    samples, rate = importlib.import_module("soundfile").read(path, dtype="float32")
    if rate != sounds.RATE:
        raise AssertionError(f"reads {samples.shape[0]} samples of {rate} Hz")
    channels = (case.options or {}).get("channels")
    if samples.ndim == 1 or channels is None:
        return samples
    return samples.mean(1) if channels == "mean" else samples[:, channels]


def transformers_ids(path: pathlib.Path, case: Case) -> list[int]:
    from transformers import BertTokenizer

    tokenizer = BertTokenizer(vocab=str(path))
    return tokenizer(texts.TEXT)["input_ids"]


def torch_weights(path: pathlib.Path, case: Case) -> list[int]:
    """Ten seconds and 16 GiB."""
    import resource
    import signal

    torch = importlib.import_module("torch")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**34, hard))
    signal.alarm(10)  # which ends the process
    try:
        torch.load(path, weights_only=True)
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    return []


READERS: dict[str, dict[str, tuple[list[Case], Callable[[pathlib.Path, Case], Any]]]] = {
    "images": {"Pillow": (pictures.CASES, pillow), "transformers": (pictures.CASES, transformers_image)},
    "sounds": {"soundfile": (sounds.CASES, soundfile)},
    "vocabularies": {"transformers": (texts.VOCABULARIES, transformers_ids)},
    "pickles": {"torch.load(weights_only=True)": (weights.PICKLED, torch_weights)},
}


def outcome(case: Case, reader: Callable[[pathlib.Path, Case], Any], folder: pathlib.Path) -> str:
    """Return in words what a reader does with a case."""
    path = folder / ("vocab.txt" if case.format == "vocab.txt" else "file")
    case.make(path)
    try:
        found = reader(path, case)
    except AssertionError as error:
        return str(error)
    except Exception as error:
        return f"raises {type(error).__name__}"
    if case.format == ".bin":
        return "same" if case.shown == "read" else "reads it"
    if isinstance(found, list):
        return "same" if found == case.expected else f"other ids: {found}"
    same = isinstance(case.expected, np.ndarray) and np.array_equal(found, case.expected)
    if same:
        return "same"
    if case.format in ("WAV", "other") and found.dtype != np.uint8:
        return f"reads {' × '.join(map(str, found.shape))} samples" + (
            f" up to {np.abs(found).max():.3g}" if found.size else ""
        )
    if "EXIF" in case.variant:
        return "not turned"
    white = round(100 * float((found == 255).mean()))
    mean = f"mean {found.mean():.0f}"
    expected = f" instead of {case.expected.mean():.0f}" if isinstance(case.expected, np.ndarray) else ""
    return f"reads {found.shape[1]} × {found.shape[0]} pixels, {mean}{expected}" + f", {white} % white" * (white > 50)


def measure(kind: str, name: str) -> dict[str, str]:
    """Return case -> outcome of a reader."""
    cases, reader = READERS[kind][name]
    with tempfile.TemporaryDirectory() as folder:
        return {case.name: outcome(case, reader, pathlib.Path(folder)) for case in cases}


if __name__ == "__main__":
    found = {kind: {name: measure(kind, name) for name in readers} for kind, readers in READERS.items()}
    FILE.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
