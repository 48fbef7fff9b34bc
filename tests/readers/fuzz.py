"""Fuzz every reader of foreign files: python -m tests.readers.fuzz --seconds 3600.

Files that are good are damaged at random. A reader returns a result or raises a `UserError` of one line, within ten
seconds and 512 MiB above the size of the file. The first other outcome is printed with its seed, round and file.
"""

import argparse
import itertools
import pathlib
import random
import re
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from mmkd_jax import child_process
from mmkd_jax.data import images, sounds
from mmkd_jax.data.tokenizer import Tokenizer
from mmkd_jax.errors import UserError
from tests.readers import pictures, settings, texts, weights
from tests.readers import sounds as sound_files
from tests.readers.case import Case

SECONDS, BYTES = 10.0, 512 * 2**20
WORDS = [b"\0", b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\x80", b"9" * 30, b"-1", b"NaN", b"null", b"[", b"{", b'"']
WORDS += [b"../", b"\n", b"\r", "\u2028".encode()]


class Target(NamedTuple):
    """A reader to fuzz.

    Attributes:
        file: name of the file.
        cases: files to start from.
        read: `(folder)`, reads the file and checks the result.
        beside: other files in the folder.
        rounds: rounds in CI.
    """

    file: str
    cases: list[Case]
    read: Callable[[pathlib.Path], Any]
    beside: dict[str, bytes] | None = None
    rounds: int = 2_500


def contents(cases: list[Case], refused: bool = False) -> dict[str, bytes]:
    """Return the files of the cases by name; those that are refused, only if `refused`."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "file"
        for case in cases:
            if refused or not isinstance(case.expected, str):
                case.make(path)
                found[case.name] = path.read_bytes()
    return found


def read_image(folder):
    x = images.Pictures(size=(16, 16))([folder / "image"])["image"]
    assert x.shape == (1, 16, 16, 3) and x.dtype == np.uint8


def read_sound(folder):
    (x,) = sounds.waveforms([folder / "sound"], 16_000, resample=True, channels="mean")
    assert x.dtype == np.float32 and np.isfinite(x).all()


def read_settings(folder):
    no_time = child_process.Limits(loading=0.0)  # of transformers, which is asked about damaged names of a class
    images.read(folder, {}, limits=no_time)([np.zeros((20, 20, 3), np.uint8)])


def read_tokenizer(folder):
    ids = Tokenizer(folder, 8, 0)([texts.TEXT])["text.ids"]
    assert ids.dtype == np.int32 and ids.shape[1] <= 8 and (ids >= 0).all()


PLAIN = {"vocab.txt": texts.PLAIN.encode()}
TARGETS = {
    "images": Target("image", pictures.CASES, read_image),
    "sounds": Target("sound", sound_files.CASES, read_sound),
    "preprocessor_config.json": Target("preprocessor_config.json", settings.CASES, read_settings),
    "vocab.txt": Target("vocab.txt", texts.VOCABULARIES, read_tokenizer, rounds=1_000),
    "tokenizer_config.json": Target("tokenizer_config.json", texts.SETTINGS, read_tokenizer, PLAIN, rounds=1_000),
    "tokenizer.json": Target("tokenizer.json", texts.TOKENIZERS, read_tokenizer, rounds=100),
}
ROUNDS = {"config.json": 1_000, "model.safetensors": 1_200}
TARGETS |= {n: Target(n, *about, rounds=ROUNDS.get(n, 2_500)) for n, about in weights.FILES.items()}


def damaged(data: bytes, draw: random.Random) -> bytes:
    """Return data with one to four changes at random."""
    x = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        # half of the changes are near the start, where headers are
        end = min(len(x), 64) if draw.random() < 0.5 else len(x)
        at, size = draw.randint(0, end), draw.choice([1, 2, 4, 8, 64])
        match draw.randrange(6):
            case 0 if x:
                x[min(at, len(x) - 1)] ^= 1 << draw.randrange(8)
            case 1:
                x[at : at + size] = draw.randbytes(size)
            case 2:
                x[at : at + size] = b""
            case 3:
                word = draw.choice(WORDS)
                x[at : at + len(word)] = word
            case 4:
                x[at:at] = x[at : at + 16 * size] * draw.choice([1, 2, 50])
            case 5 if draw.random() < 0.3:
                del x[draw.randint(0, len(x)) :]
    return bytes(x)


def resident(field: str) -> int:
    """Return the resident size of this process in bytes: now ("VmRSS"), or the largest ("VmHWM")."""
    found = re.search(rf"{field}:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def wrong(target: Target, folder: pathlib.Path, data: bytes) -> str:
    """Read a file, and return what is wrong with the outcome; empty if nothing is."""
    for file, content in (target.beside or {}).items():
        (folder / file).write_bytes(content)
    (folder / target.file).write_bytes(data)
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    began, before = time.monotonic(), resident("VmRSS")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(folder)
    except UserError as error:
        if "\n" in str(error) or len(str(error)) > 2_000:
            return f"an error of several lines: {error}"
    except BaseException:
        return traceback.format_exc()
    if (seconds := time.monotonic() - began) > SECONDS:
        return f"{seconds:.0f} s"
    if (more := resident("VmHWM") - before) > BYTES + len(data):
        return f"{more / 2**20:.0f} MiB"
    return ""


def tried(name: str, data: bytes, which: str) -> bool:
    """Read a file, and print what is wrong with the outcome; returns whether nothing is."""
    with tempfile.TemporaryDirectory() as folder:
        problem = wrong(TARGETS[name], pathlib.Path(folder), data)
    if problem:
        kept = pathlib.Path(tempfile.mkdtemp()) / TARGETS[name].file
        kept.write_bytes(data)
        print(f"{name}, {which}, kept as {kept}:\n{problem}")
    return not problem


def main(arguments: list[str] | None = None) -> int:
    """Fuzz for some time, or in CI for the rounds of each target; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, help="default: the rounds of each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--targets", nargs="*", default=list(TARGETS))
    parser.add_argument(
        "--cases", action="store_true", help="read the undamaged cases, those that are refused included"
    )
    parser.add_argument("--file", type=pathlib.Path, help="read this file with the targets")
    options = parser.parse_args(arguments)
    if options.cases or options.file:
        files = [(n, which, x) for n in options.targets for which, x in contents(TARGETS[n].cases, True).items()]
        if options.file:
            files = [(n, options.file.name, options.file.read_bytes()) for n in options.targets]
        results = [tried(name, data, which) for name, which, data in files]
        print(f"{sum(results)} of {len(results)} cases are right")
        return int(not all(results))
    good = {n: list(contents(TARGETS[n].cases).values()) for n in options.targets}
    ends = None if options.seconds is None else time.monotonic() + options.seconds
    counts = dict.fromkeys(options.targets, 0)
    for number in itertools.count():
        more = [n for n in options.targets if ends is not None or number < TARGETS[n].rounds]
        for name in more:
            if ends is not None and time.monotonic() > ends:
                more = []
                break
            draw = random.Random(f"{options.seed} {name} {number}")
            if not tried(name, damaged(draw.choice(good[name]), draw), f"seed {options.seed}, round {number}"):
                return 1
            counts[name] += 1
        if not more:
            break
    print(f"seed {options.seed}: {counts}, all right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
