"""Reading weights of others: every file gives its tensors, or one line that names it, at once and in little memory."""

import json
import pathlib
import pickle
import re
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save

from mmkd_jax import pretrained
from mmkd_jax.errors import UserError
from mmkd_jax.pretrained import folder as folders
from mmkd_jax.pretrained import pickled
from tests.pretrained import hostile
from tests.pretrained.hostile_pickles import PICKLES, legacy, zipped
from tests.small import equal

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def done():
    """The outcomes of all cases, read in one process."""
    command = [sys.executable, "-m", "tests.pretrained.hostile"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def test_every_file_gives_a_result_or_one_line_that_begins_with_its_path(done):
    """A file of each kind of damage or attack → its tensors where they are valid, else one line, path first."""
    wrong = {}
    for name, (_, words) in hostile.CASES.items():
        said = done["answers"][name]
        one_line = said.startswith("FOLDER") and len(said.splitlines()) == 1 and said.isprintable() and len(said) < 500
        if (said != "result" if words == "result" else not one_line) or not re.search(words, said):
            wrong[name] = said
    assert wrong == {}


def test_no_file_costs_memory_or_time(done):
    """All of these files in one process → less than 512 MiB more than for a good one, and seconds of CPU time."""
    assert done["growth"] < 512
    slow = {n: t for n, t in done["times"].items() if t > (1 if n.startswith("config") else 20)}
    assert slow == {}


@pytest.mark.parametrize("layout", [zipped, legacy])
def test_a_hostile_file_changes_nothing_that_later_files_read(layout, tmp_path):
    """A good file before and after every hostile pickle in the same process → the same values."""
    layout(tmp_path / "good.bin", PICKLES["plain tensor"][0])
    for data, _ in PICKLES.values():
        if len(data) < 10**6:
            layout(tmp_path / "hostile.bin", data)
            hostile.answer(pickled.read, tmp_path / "hostile.bin")
        found = pickled.read(tmp_path / "good.bin")
        assert list(found) == ["w"]
        np.testing.assert_array_equal(found["w"], np.arange(4, dtype=np.float32).reshape(2, 2))


@pytest.mark.parametrize("layout", [zipped, pytest.param(legacy, marks=pytest.mark.slow)])
def test_arrays_are_read_only_views(layout, tmp_path):
    """A tensor of a .bin file → an array that cannot be written, nor made writeable."""
    layout(tmp_path / "good.bin", PICKLES["plain tensor"][0])
    found = pickled.read(tmp_path / "good.bin")["w"]
    assert not found.flags.writeable and not found.flags.owndata
    with pytest.raises(ValueError, match="WRITEABLE"):
        found.flags.writeable = True


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("F8_E4M3", ml_dtypes.float8_e4m3fn), ("F8_E5M2", ml_dtypes.float8_e5m2), ("BF16", ml_dtypes.bfloat16)],
)
def test_narrow_floats_are_read_bit_by_bit(name, dtype, tmp_path):
    """8-bit floats and bfloat16 in safetensors → arrays of that dtype, with the same bits."""
    bits = np.arange(256, dtype=np.uint8 if name != "BF16" else np.uint16)
    (tmp_path / "model.safetensors").write_bytes(hostile.raw(name, [2, 128], bits.tobytes()))
    found = folders.read_tensors(tmp_path)["w"]
    assert found.dtype == dtype and found.shape == (2, 128)
    np.testing.assert_array_equal(found.view(bits.dtype).ravel(), bits)


def test_a_byte_order_mark_is_accepted(tmp_path):
    """A config.json with a byte order mark → read like one without."""
    hostile.good(tmp_path)
    before = pretrained.load(tmp_path).variables
    (tmp_path / "config.json").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "config.json").read_bytes())
    assert equal(pretrained.load(tmp_path).variables, before)


def mutated(data: bytes, draw) -> bytes:
    """A few bytes are flipped, cut, repeated or moved."""
    changed = bytearray(data)
    for _ in range(draw.integers(1, 4)):
        at, length = draw.integers(len(changed) + 1), int(draw.integers(1, 9))
        match draw.integers(4):
            case 0:
                changed[at : at + length] = draw.bytes(min(length, len(changed) - at))
            case 1:
                del changed[at : at + length]
            case 2:
                changed[at:at] = changed[at : at + length]
            case _ if len(changed) > 8:
                changed[at : at + 1] = draw.choice([b"\xff", b"\x00", b"(", b"t", b"R", b"b", b"9", b'"', b"[", b"}"])
    return bytes(changed)


def test_a_checkpoint_with_more_than_tensors_is_read(tmp_path):
    """A nested checkpoint in the legacy layout, with numbers and text → the same values, in plain containers."""
    tree = {"state": {}, "epoch": 3, "loss": [0.5, None, True], "name": "ä", "betas": (0.9, 0.999), "long": 2**70}
    legacy(tmp_path / "a.pt", pickle.dumps(tree, 2), keys=(), content=b"")
    with pytest.raises(UserError, match="more than named tensors"):
        folders._pickle(tmp_path / "a.pt")
    assert pickled.read(tmp_path / "a.pt") == tree


def test_shards_are_one_model(tmp_path):
    """Tensors in two shards, as their index assigns them → those of a single file."""
    (tmp_path / "a.safetensors").write_bytes(save({"v": np.ones(2)}))
    (tmp_path / "b.safetensors").write_bytes(save({"w": np.zeros(3)}))
    index = {"weight_map": {"v": "a.safetensors", "w": "b.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    found = folders.read_tensors(tmp_path)
    assert sorted(found) == ["v", "w"] and found["v"].tolist() == [1, 1]
