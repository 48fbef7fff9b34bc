"""Data sets from a table and the files that it names."""

import csv
import json
import pathlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import scipy.io.wavfile
from PIL import Image

from mmkd_jax import data, files
from mmkd_jax.data import GrainLoader, InMemory
from mmkd_jax.data.preprocess import (
    Characters,
    LogMel,
    Normalize,
    PadOrTrim,
    ReadArray,
    ReadImage,
    ReadVideo,
    Resample,
    Resize,
    Standardize,
    Tokenize,
    TrainTokenizer,
)
from mmkd_jax.data.raw import prepared
from mmkd_jax.errors import UserError

DRAW = np.random.default_rng(0)
NAMES = ["photo", "sound", "clip", "caption", "age", "species", "owner", "fold"]
ROWS = [
    ["0.png", "0.wav", "0.gif", "a good dog", "3", "dog", "Ann", "train"],
    ["1.png", "", "1", "a bad cat, a", "4.5", "cat", "Bo", "train"],
    ["", "2.wav", "", "a good cat", "1", "", "Cy", "train"],
    ["3.png", "3.wav", "3.gif", "", "2", "dog", "Di", "validation"],
    ["4.png", "4.wav", "4.gif", "a dog", "3", "cat", "Ed", "test"],
    ["5.png", "5.wav", "", "the cat", "7", "dog", "Flo", "test"],
]
INPUTS: dict[str, Any] = {
    "photo": (ReadImage(), Resize((4, 4))),
    "sound": (Resample(8_000), PadOrTrim(400), LogMel(8_000, bands=4, window=200, hop=100)),
    "clip": ReadVideo(2, (4, 4)),
    "caption": [TrainTokenizer(20, 6, "words"), Characters(5)],
    "age": (ReadArray(), Standardize()),
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """The folder of the files; photos 0 … 5, sounds of several rates, clips as GIF and as folder of frames."""
    folder = tmp_path_factory.mktemp("raw")
    for i in range(6):
        pixels = DRAW.integers(0, 256, (5 + i, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        wave = (DRAW.normal(size=300 + 60 * i) * 3_000).astype(np.int16)
        scipy.io.wavfile.write(folder / f"{i}.wav", 8_000 * (1 + i % 2), wave)
        frames = [Image.fromarray(np.roll(pixels, k, 1)) for k in range(3)]
        frames[0].save(folder / f"{i}.gif", save_all=True, append_images=frames[1:])
        (folder / f"{i}").mkdir()
        for k, frame in enumerate(frames):
            frame.save(folder / f"{i}" / f"{k}.png")
    table(folder / "pets.csv", ROWS)
    return folder


def table(path, rows, names=NAMES, **how):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, **how).writerows([names, *rows])
    return path


def written(folder, rows, name="other.csv", names=NAMES):
    """A table of other rows beside the files."""
    return table(folder / name, rows, names)


def read(path, inputs=INPUTS, **how):
    lines: list[str] = []
    given: dict[str, Any] = {"label": "species", "split": "fold", "group": "owner", "log": lines.append} | how
    return data.from_files(path, inputs, **given), lines


@pytest.fixture(scope="module")
def pets(raw, tmp_path_factory):
    return read(raw / "pets.csv", cache=tmp_path_factory.mktemp("cache"))[0]


def test_columns_are_those_of_the_steps_and_masks_say_what_is_missing(raw, pets):
    train = pets["train"].columns
    assert {k: s.size for k, s in pets.items()} == {"train": 3, "validation": 1, "test": 2}
    assert pets["test"].about == {"classes": ["cat", "dog"]} and all(s.spec == pets["test"].spec for s in pets.values())
    assert train["label"].tolist() == [1, 0, 0] and train["labelled"].tolist() == [True, True, False]
    assert train["present.photo"].tolist() == [True, True, False] and not train["photo"][2].any()
    assert train["present.words"].all() and "present.age" not in train
    for name, ending in (("photo", "png"), ("sound", "wav"), ("clip", "gif")):
        chain = next(x for x in pets["test"].preprocess if x.input == name)
        expected = chain([raw / f"4.{ending}"])[name]
        np.testing.assert_array_equal(pets["test"].columns[name][:1], expected, strict=True)
    assert pets["test"].columns["example_id"].tolist() == [4, 5]
    assert pets["train"].counts["labelled"] == 2 and pets["train"].where("labelled").size == 2


def test_steps_are_fitted_to_the_training_rows(pets):
    words, letters, age = pets["test"].preprocess[3:]
    assert isinstance(words.steps[0], Tokenize) and words.steps[0].tokenizer.vocabulary == 5  # a, cat, good
    assert isinstance(letters.steps[0], Characters) and letters.columns == ("caption.ids", "caption.mask")
    mean, std = np.mean([3, 4.5, 1]), np.std([3, 4.5, 1])
    assert isinstance(age.steps[1], Normalize)
    np.testing.assert_allclose(age.steps[1].mean + age.steps[1].std, (mean, std))
    np.testing.assert_allclose(pets["test"].columns["age"], (np.array([3, 7]) - mean) / std, rtol=1e-6)


def test_loaders_give_equal_batches_and_stream(pets):
    memory, streamed = (kind(pets["train"], batch_size=2) for kind in (InMemory, GrainLoader))
    for _, a, b in zip(range(3), memory.batches(0), streamed.batches(0), strict=False):
        assert a.keys() == b.keys()
        for k, x in a.items():
            np.testing.assert_array_equal(np.asarray(x), b[k], err_msg=k)


def test_a_second_call_decodes_nothing_and_damage_is_found(raw, tmp_path, monkeypatch):
    first, lines = read(raw / "pets.csv", cache=tmp_path)
    assert lines == []
    monkeypatch.setattr(prepared, "_write", lambda *given: pytest.fail("decoded again"))
    for inputs in (INPUTS, {"photo": INPUTS["photo"]}):  # other inputs, splits and labels use the same copies
        again, _ = read(raw / "pets.csv", inputs, cache=tmp_path)
        np.testing.assert_array_equal(again["test"].columns["photo"], first["test"].columns["photo"])
    assert read(raw / "pets.csv", cache=tmp_path)[0]["test"].fingerprint == first["test"].fingerprint
    monkeypatch.undo()
    path = next(tmp_path.glob("files/pets/photo-*/photo-*.npy"))
    path.write_bytes(path.read_bytes()[:-1] + b"\x80")
    again, lines = read(raw / "pets.csv", cache=tmp_path)
    assert (
        len(lines) == 1 and "photo-" in lines[0] and "another SHA-256" in lines[0] and "preparing it again" in lines[0]
    )
    np.testing.assert_array_equal(again["test"].columns["photo"], first["test"].columns["photo"])


def test_a_changed_file_or_step_is_prepared_again(raw, tmp_path):
    folder = tmp_path / "raw"
    shutil.copytree(raw, folder)
    photo = {"photo": INPUTS["photo"]}
    first, _ = read(folder / "pets.csv", photo, cache=tmp_path)
    shutil.copyfile(folder / "0.gif", folder / "4.png")
    second, _ = read(folder / "pets.csv", photo, cache=tmp_path)
    assert (second["test"].columns["photo"][0] != first["test"].columns["photo"][0]).any()
    assert second["test"].fingerprint != first["test"].fingerprint
    third, _ = read(folder / "pets.csv", {"photo": (ReadImage(), Resize((3, 3)))}, cache=tmp_path)
    assert third["test"].columns["photo"].shape == (2, 3, 3, 3)
    assert len(list(tmp_path.glob("files/pets/photo-*/record.json"))) == 3


_written = prepared._write


def _prepare(path, cache):
    inputs = {"photo": INPUTS["photo"]}
    data.from_files(path, inputs, cache=cache, log=lambda line: None)


def test_two_at_once_prepare_one_copy_and_one_that_was_killed_leaves_nothing(raw, tmp_path, monkeypatch):
    left = tmp_path / "files" / "pets"
    left.mkdir(parents=True)
    writes = []
    monkeypatch.setattr(prepared, "_write", lambda *given: writes.append(given) or _written(*given))
    with ThreadPoolExecutor() as pool:  # locks of two threads exclude each other like those of processes
        list(pool.map(_prepare, [raw / "pets.csv"] * 2, [tmp_path] * 2))
    assert len(writes) == 1
    (copy,) = left.glob("photo-*/record.json")
    stale = left / f".{copy.parent.name}.killed"
    stale.mkdir()
    shutil.rmtree(copy.parent)
    _prepare(raw / "pets.csv", tmp_path)
    assert not stale.exists() and copy.exists()


def test_json_lines_and_parquet_are_read_like_csv(raw, pets, tmp_path):
    def typed(name, x):
        return None if x == "" else float(x) if name == "age" else x

    rows = [{k: typed(k, x) for k, x in zip(NAMES, row, strict=True)} for row in ROWS]
    rows[1]["clip"] = [f"1/{k}.png" for k in range(3)]
    (raw / "pets.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    for row in rows:
        row["clip"] = [row["clip"]] if isinstance(row["clip"], str) and row["clip"].endswith(".gif") else row["clip"]
    inputs = {k: x for k, x in INPUTS.items() if k != "clip"}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), raw / "pets.parquet")
    lines, _ = read(raw / "pets.jsonl", cache=tmp_path)
    columns, _ = read(raw / "pets.parquet", inputs, cache=tmp_path)
    for name, dataset in pets.items():
        for k, x in dataset.columns.items():
            np.testing.assert_array_equal(lines[name].columns[k], x, err_msg=k)
            assert "clip" in k or (columns[name].columns[k] == x).all()


def test_shares_are_equal_within_classes_and_depend_on_seed_and_content_only(raw, tmp_path):
    names = ["said", "species", "owner"]
    rows = [[f"text {i} of {i % 7}", ["cat", "dog", "cow"][i % 3], str(i // 2)] for i in range(60)]
    how = {"split": {"train": 0.6, "validation": 0.2, "test": 0.2}, "cache": tmp_path}

    def splits(rows, **more):
        found, _ = read(written(raw, rows, names=names), {"said": Characters(9)}, **(how | more))
        return {rows[i][0]: k for k, d in found.items() for i in d.columns["example_id"]}, found

    first, found = splits(rows, group=None)
    assert {k: np.bincount(d.columns["label"]).tolist() for k, d in found.items()} == {
        "train": [12, 12, 12],
        "validation": [4, 4, 4],
        "test": [4, 4, 4],
    }
    assert splits(rows[::-1], group=None)[0] == first != splits(rows, group=None, seed=1)[0]
    grouped, found = splits(rows)
    assert all(grouped[rows[i][0]] == grouped[rows[i + 1][0]] for i in range(0, 60, 2))
    assert [abs(d.size - n) <= 2 for d, n in zip(found.values(), (36, 12, 12), strict=True)] == [True] * 3
    copied, _ = splits([*rows, *rows], group=None)
    assert len(copied) == 60  # a copy is in the split of its original


@pytest.mark.parametrize(
    ("cells", "how", "expected"),
    [
        (["1", "0", "2", "1"], {}, ([1, 0, 2, 1], ["0", "1", "2"])),
        (["0.5", "-2", "1e1", "0"], {}, ([0.5, -2, 10, 0], None)),
        (["1.0", "2.0", "1.0", "3"], {"regression": True}, ([1, 2, 1, 3], None)),
        (["1.0", "5", "1", "10"], {"regression": False}, ([0, 1, 0, 2], ["1", "5", "10"])),
        (["b", "a", " b", "b"], {"classes": ["b", "a", "z"]}, ([0, 1, 0, 0], ["b", "a", "z"])),
        (["1", "2", "1", "5"], {}, "labels 'species' are 1 … 5, not the integers 0 … n − 1: pass regression=True"),
        (["1.0", "0.0", "1.0", "0.0"], {}, "labels 'species' are 1.0, not the integers 0 … n − 1"),
        (["a", "b", "a", "c"], {"classes": ["a", "b"]}, "row 3 (line 5): the label 'c' is not a class"),
        (["Dog", "dog", "cat", "cat"], {}, "'Dog' and 'dog' differ only in case"),
        (["1.5", "x", "2", "3"], {"regression": True}, "row 1 (line 3): the label 'species' is 'x'; expected a number"),
        (["1e99", "1", "2", "3"], {"regression": True}, "row 0 (line 2): the label 'species' is '1e99'"),
        (["", "", "", ""], {}, "no training row has a label 'species'"),
        (["a", "b", "a", "b"], {"classes": ["a", "a"]}, "expected the names of the classes, each once"),
    ],
)
def test_labels(raw, tmp_path, cells, how, expected):
    path = written(raw, [[str(i), x] for i, x in enumerate(cells)], names=["n", "species"])
    how = {"split": None, "group": None, "cache": tmp_path, **how}
    if isinstance(expected, str):
        with pytest.raises(UserError) as error:
            read(path, {"n": ReadArray()}, **how)
        assert expected in str(error.value)
        return
    (found,) = read(path, {"n": ReadArray()}, **how)[0].values()
    values, classes = expected
    assert found.columns["label"].tolist() == values and found.about.get("classes") == classes
    assert found.spec["label"].dtype == (np.float32 if classes is None else np.int32)


def changed(i, name, value):
    rows = [list(row) for row in ROWS]
    rows[i][NAMES.index(name)] = value
    return rows


BAD: dict[str, Any] = {
    "a missing file": (changed(4, "photo", "no.png"), {}, r"row 4 \(line 6\): 'photo': there is no file .*no\.png"),
    "a file of another kind": (changed(4, "photo", "4.wav"), {}, r"photo 4, .*4\.wav is RIFF; expected an image"),
    "a table as a recording": (changed(3, "sound", "pets.csv"), {}, r"sound 3, .*pets\.csv .*expected a \.wav file"),
    "an empty folder": (changed(0, "clip", "empty"), {}, r"row 0 .*'clip': the folder .*empty has 0 files"),
    "another rate": (ROWS, {"inputs": {"sound": (Resample(8_000, strict=True), PadOrTrim(9))}}, r"sound 3, .*16000 Hz"),
    "no such column": (ROWS, {"inputs": {"image": ReadImage()}}, "has no column 'image'; it has: photo, sound, clip"),
    "no number": (changed(1, "age", "four"), {}, r"row 1 \(line 3\): 'age' is 'four'; expected a number"),
    "an infinite number": (changed(1, "age", "inf"), {}, "'age' is 'inf'; expected a number"),
    "a label missing in the test rows": (changed(5, "species", " "), {}, r"row 5 \(line 7\) of split 'test' has no"),
    "a class of the test rows only": (changed(5, "species", "cow"), {}, "'cow' is not a class of the training rows"),
    "a group in two splits": (changed(5, "owner", "Ann"), {}, r"row 5 .*group 'Ann' of column 'owner' is in split"),
    "a copy in two splits": (changed(5, "photo", "0.png"), {}, r"row 5 .*file of 'photo' .*same content .*row 0 in"),
    "no split": (changed(2, "fold", ""), {}, r"row 2 \(line 4\): 'fold', the split, is empty"),
    "no training split": ([[*r[:-1], "test"] for r in ROWS[:2]], {"label": None}, "no split 'train' to fit steps to"),
    "a typo in a split": (changed(4, "fold", "tset"), {}, r"row 4 .*the split, is 'tset', .* looks like 'test'"),
    "a split in another case": (changed(0, "fold", "Train"), {}, r"row 0 .*the split, is 'Train', .* like 'train'"),
    "a missing label in words": (changed(1, "species", "NaN"), {}, r"row 1 .*the label 'species' is 'NaN': leave the"),
    "several labels in a cell": (changed(1, "species", "[1, 0]"), {}, r"row 1 .*is a list; expected one word"),
    "labels as an input": (
        ROWS, {"inputs": {"kind": Characters(3)}, "rename": {"kind": "species"}}, "input 'kind' reads the column 'spec"
    ),
    "empty in all training rows": (
        [r if r[-1] == "test" else ["", *r[1:]] for r in ROWS], {}, "input 'photo' is empty in all 3 training rows"
    ),
    "empty in all rows": ([["", *r[1:]] for r in ROWS], {}, "input 'photo' is empty in all rows"),
    "pictures of several sizes": (ROWS, {"inputs": {"photo": ReadImage()}}, "shape of 'photo' differs from row to row"),
    "one modality twice": (
        ROWS, {"inputs": {"caption": [Characters(3), Characters(4)]}}, "column 'caption.ids', which another one"
    ),
    "no step": (ROWS, {"inputs": {"photo": "resize"}}, "input 'photo': 'resize' is not a step; expected steps"),
    "a class instead of a step": (ROWS, {"inputs": {"photo": ReadImage}}, "is not a step"),
    "a column of the library's": (ROWS, {"inputs": {"label": ReadArray()}}, "input 'label': the name is reserved"),
    "a wrong sum": (ROWS, {"split": {"train": 0.5, "test": 0.4}}, "expected shares with a sum of 1"),
    "an unknown input": (ROWS, {"rename": {"picture": "photo"}}, "rename has picture, but inputs are"),
    "too few rows": (ROWS[:3], {"split": {"train": 0.9, "test": 0.1}}, "'test' has none of the 3 rows"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(raw, tmp_path, case):
    rows, how, expected = BAD[case]
    (raw / "empty").mkdir(exist_ok=True)
    with pytest.raises(UserError, match=expected) as error:
        read(written(raw, rows), **({"cache": tmp_path} | how))
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_inputs_may_have_other_names_than_columns(raw, tmp_path):
    found, _ = read(raw / "pets.csv", {"image": INPUTS["photo"]}, rename={"image": "photo"}, cache=tmp_path)
    assert found["train"].spec["image"].shape == (4, 4, 3) and "present.image" in found["train"].spec


def test_a_folder_that_cannot_be_written(raw, tmp_path):
    (tmp_path / "files").write_text("")
    with pytest.raises(UserError, match="choose another folder with cache=…"):
        read(raw / "pets.csv", cache=tmp_path)


def test_hashes_of_files_are_remembered_until_they_change(tmp_path, monkeypatch):
    from mmkd_jax.data.raw import contents

    path, known = tmp_path / "a", tmp_path / "known.json"
    path.write_text("a")
    monkeypatch.setattr(contents, "_RECENT", -(10**12))
    first = contents.hashes({path: "row 0"}, known, 1)
    remembered = files.read_json(known)["files"]
    files.write_json(known, {"files": {k: [*x[:-1], "remembered"] for k, x in remembered.items()}})
    assert contents.hashes({path: "row 0"}, known, 1) == {path: "remembered"}
    path.write_text("b")
    assert contents.hashes({path: "row 0"}, known, 1)[path] not in ("remembered", first[path])
    assert isinstance(path, pathlib.Path)


def test_rows_beside_unlabeled_ones_count_towards_the_share_of_the_training_split(raw, tmp_path):
    """Groups with an unlabeled row are training rows, and the other labeled rows fill up the shares."""
    names = ["said", "species", "owner"]
    rows = [[f"text {i}", ["cat", "dog"][i % 2] if i % 8 or i > 40 else "", str(i // 4)] for i in range(120)]
    how = {"cache": tmp_path, "seed": 3}
    path = written(raw, rows, names=names)
    found, _ = read(path, {"said": Characters(9)}, split={"train": 0.6, "validation": 0.2, "test": 0.2}, **how)
    labeled = {k: int(d.counts.get("labelled", d.size)) for k, d in found.items()}
    total = sum(labeled.values())
    assert total == 114 and abs(labeled["train"] - 0.6 * total) <= 4 and abs(labeled["test"] - 0.2 * total) <= 4
    unlabeled = [r if i % 5 else [r[0], "", r[2]] for i, r in enumerate(rows)]
    with pytest.raises(UserError, match=r"labeled rows share a group or a file with an unlabeled row.*raise it"):
        read(written(raw, unlabeled, names=names), {"said": Characters(9)}, split={"train": 0.5, "test": 0.5}, **how)


def test_a_row_without_inputs_is_reported(raw, tmp_path):
    _, lines = read(written(raw, [*ROWS, ["", "", "", "", "", "dog", "Gil", "train"]]), cache=tmp_path)
    assert "1 of 7 rows lacks all inputs (the first is row 6)" in " ".join(lines)
