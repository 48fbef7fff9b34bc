"""The page docs/readers.md, from the cases: python -m tests.readers.page > docs/readers.md"""

import json
import pathlib
from collections.abc import Iterable, Mapping

import numpy as np

from tests.readers import pictures, settings, sounds, texts, weights
from tests.readers.case import Case

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "readers.md"
REFERENCES = pathlib.Path(__file__).with_name("references.json")
HEAD = """# Files from elsewhere

Image, audio, text and weight files come from cameras, scrapers and hubs. A file is either read as its authors meant \
it, or refused with one line that names it; it is never read in part. This page is generated from the cases in \
`tests/readers/`, each of which is a test; the other columns list the results of other libraries on the same files \
(Pillow 13.0, transformers 5.23, soundfile 0.14 with libsndfile 1.2.2, torch 2.13, 2026-11-29; \
"same" means equal values).
"""
IMAGES = """
`data.images.Pictures`, the image processor of pretrained encoders, reads these files. Color profiles, gamma and HDR \
metadata are not applied. A file may have 2 GiB and 61 million pixels (`max_pixels`), with 0.8 of it for \
progressive JPEG, 0.6 for AVIF and 0.4 for WebP, whose decoders need more memory; likewise after resizing. JPEG \
has no checksums: flipped bits inside its pixels go unnoticed, as in every other program; those of PNG are \
compared.
"""
SOUNDS = """
`data.sounds.waveforms`, which the audio processors call, reads WAV files. Gains in metadata, such as ReplayGain, are \
not applied. Convert other formats first, or pass arrays.
"""
VOCABULARIES = """
`data.tokenizer.Tokenizer` reads the tokenizer of a model folder.
"""
TOKENIZERS = """
A tokenizer.json may contain regular expressions that take for ever. It is first read in a child process that has 10 \
seconds and 2 GiB, and that encodes long runs of characters; `pretrained.load(…, limits=pretrained.Limits(seconds=…, \
max_bytes=…))` sets other bounds. Texts that a tokenizer cannot encode raise an error.
"""
WEIGHTS = """
`pretrained.load` reads model folders. A .bin file is interpreted without PyTorch and without Python's unpickler: no \
object is imported for a name in it, and nothing that it reaches outlives the read. Sizes are compared with the size \
of the file before memory is allocated. A shard must lie in the folder. Tensors must be floating point, floats of 8 \
bits included, and finite.
"""
CONFIGS = """
Sizes in config.json are compared with the tensors before a model is built. All families are tested likewise.
"""
TEXTS = """
Texts may be strings, or UTF-8 bytes.
"""


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    heads = list(heads)
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), ""])


def compared(cases: list[Case], others: Mapping[str, Mapping[str, str]]) -> str:
    """Return the table of some cases, beside other libraries."""
    rows = [[c.format, c.variant, c.shown, *(x[c.name] for x in others.values())] for c in cases]
    return table(["format", "variant or damage", "mmkd_jax", *others], rows)


def page() -> str:
    """Return the whole page."""
    known = json.loads(REFERENCES.read_text(encoding="utf-8"))
    rows = [[variant, shown] for variant, _, _, shown in texts.TEXTS]
    return "\n".join([
        HEAD,
        f"## Images\n{IMAGES}",
        compared(pictures.CASES, known["images"]),
        f"## Recordings\n{SOUNDS}",
        compared(sounds.CASES, known["sounds"]),
        f"## Vocabularies and tokenizers\n{VOCABULARIES}",
        compared(texts.VOCABULARIES, known["vocabularies"]),
        TOKENIZERS,
        compared([*texts.SETTINGS, *texts.TOKENIZERS, *settings.CASES], {}),
        f"## Weights\n{WEIGHTS}",
        compared(weights.PICKLED, known["pickles"]),
        CONFIGS,
        table(["file", "variant or damage", "mmkd_jax"], weights.rows()),
        f"## Texts\n{TEXTS}",
        table(["text", "mmkd_jax"], rows),
    ])  # fmt: skip


def shown_is_right(case: Case) -> bool:
    """Return whether a case is shown as refused exactly if it is."""
    return (case.shown == "refused") == (not isinstance(case.expected, np.ndarray | list))


if __name__ == "__main__":
    print(page(), end="")
