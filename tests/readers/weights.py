"""Model folders: the files that the fuzzer damages, and the rows of docs/readers.md; tests/pretrained reads them."""

import json
import pathlib
import tempfile

from mmkd_jax import pretrained
from mmkd_jax.errors import shown
from mmkd_jax.pretrained import folder as folders
from tests.pretrained import hostile
from tests.pretrained.hostile_pickles import PICKLES, legacy, zipped
from tests.readers.case import Case
from tests.readers.pictures import written


def of_folder() -> dict[str, bytes]:
    """Return the files of a good model folder."""
    with tempfile.TemporaryDirectory() as place:
        hostile.good(pathlib.Path(place))
        return {p.name: p.read_bytes() for p in pathlib.Path(place).iterdir()}


def in_layout(layout) -> bytes:
    with tempfile.TemporaryDirectory() as place:
        layout(path := pathlib.Path(place) / "file", PICKLES["plain tensor"][0])
        return path.read_bytes()


GOOD = of_folder()
INDEX = {"weight_map": {"w": "pytorch_model.bin"}}


def read_model(folder):
    pretrained.load(folder)


def read_tensors(folder):
    folders.read_tensors(folder)


def case(name, data):
    return Case(name, "good", written(data), [])


# file -> cases, reader, other files in the folder
FILES = {
    "config.json": ([case("config.json", GOOD["config.json"])], read_model, GOOD),
    "model.safetensors": ([case("model.safetensors", GOOD["model.safetensors"])], read_model, GOOD),
    "pytorch_model.bin": ([case("zip", in_layout(zipped)), case("legacy", in_layout(legacy))], read_tensors, None),
    "pytorch_model.bin.index.json": (
        [case("index", json.dumps(INDEX).encode())],
        read_tensors,
        {"pytorch_model.bin": in_layout(zipped)},
    ),
}


def laid_out(data):
    return lambda path: zipped(path, data)


# words of the error -> what becomes of the file
SHOWN = {"result": "read", "more": "refused: no state dict", "more than named tensors": "refused: no state dict"}
PICKLED = [Case(".bin", n, laid_out(data), [], SHOWN.get(words, "refused")) for n, (data, words) in PICKLES.items()]


def rows() -> list[tuple[str, str, str]]:
    """Return (format, variant or damage, what becomes of it) of the hostile cases other than pickles."""
    formats = {"config": "config.json", "values": "weights", "index": "index of shards", "modules": "modules.json"}
    split = [(n.partition(": "), words) for n, (_, words) in hostile.CASES.items()]
    named = [x for x in split if x[0][0] in ("values", "index", "modules", "file")]
    named += [x for x in split if x[0][0] == "config" and x[0][2] in hostile.BERT]
    return [
        (formats.get(kind, "file"), shown(variant, 40).replace("|", "or"), "read" if words == "result" else "refused")
        for (kind, _, variant), words in named
    ]
