"""The page docs/readers.md, from the cases: python -m tests.readers.page > docs/readers.md"""

import json
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from mmkd_jax.data import images
from mmkd_jax.data.tokenizer import Tokenizer
from mmkd_jax.errors import UserError
from tests.readers import pictures, settings, sounds, tables, texts, videos, weights
from tests.readers.case import Case

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "readers.md"
REFERENCES = pathlib.Path(__file__).with_name("references.json")
HEAD = """# Files from elsewhere

Image, audio, text and weight files come from cameras, scrapers and hubs. A file is either read as its authors meant \
it, or refused with one line that names it; it is never read in part. To skip such files, read them one by one and \
catch `mmkd.UserError`. This page is generated from the cases in \
`tests/readers/`, each of which is a test; the other columns list the results of other libraries on the same files \
(Pillow 13.0, transformers 5.23, soundfile 0.14 with libsndfile 1.2.2, torch 2.13, 2026-11-29; \
"same" means equal values).
"""
IMAGES = """
`mmkd.data.Pictures`, the image processor of pretrained encoders, reads these files. Color profiles, gamma and HDR \
metadata are not applied. A file may have 2 GiB and 61 million pixels (`max_pixels`), with 0.8 of it for JPEG in CMYK \
or in several scans (0.7 for both), 0.6 for AVIF and 0.4 for WebP, whose decoders need more memory; likewise after \
resizing. Rows, strips and tiles are counted, and the checksums of PNG compared. JPEG has none: flipped bits inside \
its pixels, or an end marker in front of missing rows, go unnoticed, as in Pillow.

Transparency is treated as by transformers' processors (tests/parity): that of files is dropped; Pillow images and \
arrays are composited onto white if the processor converts to RGB (`do_convert_rgb`; by default those of CLIP, \
SigLIP and DINOv2), and otherwise, where transformers raises an error, it is dropped as well. Models of one channel \
read gray images, also those stored as RGB.

Image processors of other classes (preprocessor_config.json) are run by transformers, one image at a time, on what is \
read here. They are first created in a child process with 30 seconds, from when transformers is imported, and 2 GiB. \
The longer side squared, and the pixels after resizing, may be `max_pixels`, each of which transformers may \
need 40 bytes for.
"""
VIDEOS = """
`mmkd.data.preprocess.ReadVideo` reads animations, a frame at a time, films (MP4, MOV, WebM, Matroska and AVI, with \
PyAV, from the extra `video`), and folders whose images are the frames, in the order of their names (2.png before \
10.png). A file may have 512 MiB, 100,000 frames, and 61 million pixels per frame. Durations are ignored: \
frames are sampled evenly by their number.
"""
SOUNDS = """
`mmkd.data.waveforms`, which the audio processors call, reads WAV files, a block at a time: each sample \
of one channel needs four bytes. A file that would need 512 MiB more than its own size is refused. Gains in \
metadata, such as ReplayGain, are not applied. Convert other formats first, or pass arrays.
"""
VOCABULARIES = """
`mmkd.data.Tokenizer` reads the tokenizer of a model folder: tokenizer.json, or BERT's vocab.txt with the tokens and \
settings of tokenizer_config.json, special_tokens_map.json and added_tokens.json. Others (sentencepiece models, \
vocab.json with merges.txt, tokenizers that exist in Python only) are read with transformers: in a child process that \
has 20 seconds more than that of tokenizer.json, from when transformers is imported, and never with code of the \
folder (`trust_remote_code`). Ids are those of transformers (tests/parity), whose converted tokenizer is then used \
like a tokenizer.json; tokenizers in Python are also imported here.

A chat template is a program of its author. `tokenizer.chat` renders it as transformers does, in a sandbox without \
Python's objects, in a child process with the same bounds and 10 ms more for each conversation. A template may have \
1 MiB, and all texts of a call 33 million characters.
"""
TOKENIZERS = """
A tokenizer.json may contain regular expressions that take for ever. It is first read in a child process that has 10 \
seconds and 2 GiB, and that encodes long runs of characters; \
`mmkd.pretrained.load(…, limits=mmkd.pretrained.Limits(seconds=…, max_bytes=…))` sets other bounds. Texts that a \
tokenizer cannot encode raise an error. All ids must be below the number of the model's token embeddings.
"""
WEIGHTS = """
`mmkd.pretrained.load` reads model folders. A .bin file is interpreted without PyTorch and without Python's unpickler: \
no object is imported for a name in it, and nothing that it reaches outlives the read. Sizes are compared with the \
size of the file before memory is allocated. A shard must lie in the folder. Tensors must be floating point, floats of \
8 bits included, and finite.
"""
CONFIGS = """
Sizes in config.json are compared with the tensors before a model is built. All families are tested likewise.
"""
TABLES = """
`mmkd.data.from_files` reads these tables, here their columns a and b. A table may have 512 MiB; of Parquet, the \
columns that are read, before compression.
"""
TEXTS = """
Texts may be strings, or UTF-8 bytes.
"""


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    heads = list(heads)
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), ""])


def compared(
    cases: list[Case],
    others: Mapping[str, Mapping[str, str]],
    read: Callable[..., Any] | None = None,
    file: str = "FILE",
) -> str:
    """Return the table of some cases, beside other libraries.

    Args:
        cases: the cases.
        others: name of a library -> case -> outcome.
        read: `(path, **options)`, whose messages are listed; None lists none.
        file: name of the file.
    """
    rows = [[c.format, c.variant, outcome(c, read, file), *(x[c.name] for x in others.values())] for c in cases]
    return table(["format", "variant or damage", "mmkd_jax", *others], rows)


def outcome(case: Case, read: Callable[..., Any] | None, file: str) -> str:
    """Return what becomes of a case, with the message if it is refused."""
    if case.shown != "refused" or read is None:
        return case.shown
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / file
        case.make(path)
        try:
            read(path, **(case.options or {}))
        except UserError as error:
            message = str(error).replace(str(path), file).replace(folder, "FOLDER")
            return f"refused: {message.replace('|', '&#124;')}"
    raise AssertionError(f"{case.name} is read")


def of_tokenizer(path: pathlib.Path) -> None:
    """Read the tokenizer of the file's folder."""
    if path.name != "tokenizer.json":
        vocabulary = path.parent / "vocab.txt"
        if not vocabulary.exists():
            vocabulary.write_text(texts.PLAIN)
    Tokenizer(path.parent, 8, 0)


def of_settings(path: pathlib.Path) -> None:
    """Read the image processor of the file's folder."""
    images.read(path.parent, {})


def page() -> str:
    """Return the whole page."""
    known = json.loads(REFERENCES.read_text(encoding="utf-8"))
    rows = [[variant, shown] for variant, _, _, shown in texts.TEXTS]
    return "\n".join([
        HEAD,
        f"## Images\n{IMAGES}",
        compared(pictures.CASES, known["images"], pictures.read),
        f"## Videos\n{VIDEOS}",
        compared(videos.CASES, {}, videos.read),
        f"## Recordings\n{SOUNDS}",
        compared(sounds.CASES, known["sounds"], sounds.read),
        f"## Vocabularies and tokenizers\n{VOCABULARIES}",
        compared(texts.VOCABULARIES, known["vocabularies"], of_tokenizer, "vocab.txt"),
        TOKENIZERS,
        compared(texts.SETTINGS, {}, of_tokenizer, "tokenizer_config.json"),
        compared(texts.TOKENIZERS, {}, of_tokenizer, "tokenizer.json"),
        compared(settings.CASES, {}, of_settings, "preprocessor_config.json"),
        f"## Weights\n{WEIGHTS}",
        compared(weights.PICKLED, known["pickles"]),
        CONFIGS,
        table(["file", "variant or damage", "mmkd_jax"], weights.rows()),
        f"## Tables\n{TABLES}",
        *(compared(cases, {}, tables.read, file) for file, cases in tables.FILES.items()),
        f"## Texts\n{TEXTS}",
        table(["text", "mmkd_jax"], rows),
    ])  # fmt: skip


def shown_is_right(case: Case) -> bool:
    """Return whether a case is shown as refused exactly if it is."""
    return (case.shown == "refused") == (not isinstance(case.expected, np.ndarray | list))


if __name__ == "__main__":
    print(page(), end="")
