import pathlib
import shutil

import numpy as np
import pytest

from mmkd_jax import data
from mmkd_jax.data import commands, dataset, text
from mmkd_jax.errors import UserError

SPLITS = ("train", "validation", "test")
SHIPPED = dataset.find("av_digits")


@pytest.fixture(scope="module")
def columns():
    return {s: data.load("av_digits", s).columns for s in SPLITS}


def test_content_is_what_is_recorded(columns):
    record = dataset.read_record(SHIPPED)
    for split in SPLITS:
        assert dataset.content_hash(columns[split]) == record["splits"][split]["content"]
        shapes = {k: [x.dtype.name, list(x.shape[1:])] for k, x in columns[split].items()}
        assert shapes == record["rows"]


def test_protocol(columns):
    assert [len(columns[s]["label"]) for s in SPLITS] == [6_000, 500, 2_000]
    ids = np.concatenate([c["example_id"] for c in columns.values()])
    assert len(np.unique(ids)) == len(ids)
    assert not set(columns["test"]["voice"]) & (set(columns["train"]["voice"]) | set(columns["validation"]["voice"]))
    assert set(columns["validation"]["voice"]) <= set(columns["train"]["voice"])
    labelled = data.load("av_digits", "train").where("labelled")
    np.testing.assert_array_equal(np.bincount(labelled.columns["label"]), 50)
    assert labelled.columns["labelled"].all()
    for own in columns.values():
        assert (np.bincount(own["label"]) == len(own["label"]) // 10).all()
        assert own["image"].max() > 200 and own["audio"].max() <= 40
    # pictures are not used twice
    pictures = np.concatenate([c["image"].reshape(len(c["image"]), -1) for c in columns.values()])
    assert len(np.unique(pictures, axis=0)) > 0.999 * len(pictures)


def test_transcripts_are_mostly_wrong_but_of_the_right_length(columns):
    own = columns["train"]
    words = commands._module("av_digits").WORDS
    ids, mask = text.characters([words[i] for i in own["label"]], 5)
    np.testing.assert_array_equal(own["text.mask"], mask)
    right = (own["text.ids"] == ids)[mask].mean()
    assert right == pytest.approx(0.4 + 0.6 / 26, abs=0.02)


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(SHIPPED, tmp_path / "av_digits" / SHIPPED.name)
    return tmp_path


def shard(folder, split="test"):
    return next((folder / "av_digits" / SHIPPED.name).glob(f"*-{split}.array_record*"))


def test_a_flipped_byte_is_refused_by_name(copy):
    content = bytearray(shard(copy).read_bytes())
    content[len(content) // 2] ^= 1
    shard(copy).write_bytes(content)
    with pytest.raises(UserError, match=rf"{shard(copy).name} is damaged .*prepare av_digits"):
        _ = data.load("av_digits", "test", copy).columns


def test_a_missing_file_is_refused_by_name(copy):
    name = shard(copy).name
    shard(copy).unlink()
    with pytest.raises(UserError, match=rf"{name} is missing"):
        _ = data.load("av_digits", "test", copy).columns


def test_a_broken_record_is_refused_by_name(copy):
    record = shard(copy).parent / "record.json"
    record.write_bytes(record.read_bytes()[:50])
    with pytest.raises(UserError, match=r"record.json is damaged"):
        data.load("av_digits", "test", copy)


def test_unknown_names_list_those_that_exist(tmp_path):
    with pytest.raises(UserError, match="train, validation|test, train"):
        data.load("av_digits", "dev")
    with pytest.raises(UserError, match="not prepared in .*mmkd data prepare av_digits"):
        data.load("av_digits", "train", tmp_path)
    with pytest.raises(UserError, match="available: av_digits"):
        commands.info("nothing")


def test_commands():
    assert "av_digits  (prepared, 1.0.0)" in commands.list_()
    said = commands.info("av_digits")
    assert "6,000 rows" in said and "500 labelled" in said and "synthetic" in said


def test_prepare_does_not_overwrite(copy, monkeypatch):
    monkeypatch.setattr(commands._module("av_digits"), "make", lambda: pytest.fail("it was made"))
    with pytest.raises(UserError, match="already exists"):
        commands.prepare("av_digits", copy)


@pytest.mark.slow
def test_made_again_from_its_sources_it_is_the_same(tmp_path):
    said = commands.prepare("av_digits", tmp_path)
    assert said.count("equal to the recorded rows") == 3 and "DIFFERS" not in said
    np.testing.assert_array_equal(
        data.load("av_digits", "test", tmp_path).columns["audio"], data.load("av_digits", "test").columns["audio"]
    )


def test_the_shipped_form_is_small():
    assert sum(p.stat().st_size for p in pathlib.Path(SHIPPED).rglob("*")) < 10e6
