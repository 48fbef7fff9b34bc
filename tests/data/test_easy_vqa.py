"""It is fetched and prepared whole by `python -m pytest -m slow tests/data/test_easy_vqa.py`."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from mmkd_jax import data
from mmkd_jax.data import commands, sources

MODULE = commands._module("easy_vqa")
SPLITS = ("train", "validation", "test")


@pytest.mark.slow
def test_it_is_all_there(tmp_path):
    said = commands.prepare("easy_vqa", tmp_path)
    assert said.count("equal to the recorded rows") == 3 and "DIFFERS" not in said
    columns = {s: data.load("easy_vqa", s, tmp_path).columns for s in SPLITS}
    every = {k: np.concatenate([c[k] for c in columns.values()]) for k in ("label", "picture", "text", "example_id")}
    np.testing.assert_array_equal(np.sort(every["example_id"]), np.arange(48_248))
    assert np.bincount(every["label"]).tolist()[:5] == [17_840, 17_703, 2_105, 2_151, 2_003]
    assert len({*every["text"].tolist()}) == 107 and max(map(len, every["text"].tolist())) == 42
    pictures = [{*c["picture"].tolist()} for c in columns.values()]
    assert [len(p) for p in pictures] == [3_600, 400, 1_000] and len(set.union(*pictures)) == 5_000
    # no picture is in two splits under another number
    drawn = [{x.tobytes() for x in c["image"]} for c in columns.values()]
    assert [len(d) for d in drawn] == [3_600, 400, 1_000] and len(set.union(*drawn)) == 5_000


def png(color):
    made = io.BytesIO()
    Image.new("RGB", (64, 64), color).save(made, "png")
    return made.getvalue()


def test_a_package_in_its_form(monkeypatch):
    """Ten pictures for training and two for the test, with two questions each: a picture stays in one split."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as package:
        for part, count in (("train", 10), ("test", 2)):
            asked = [["what shape?", "circle", n] for n in range(count)] + [
                ["is it red?", "no", n] for n in range(count)
            ]
            package.writestr(f"easy_vqa/data/{part}/questions.json", json.dumps(asked))
            for n in range(count):
                package.writestr(f"easy_vqa/data/{part}/images/{n}.png", png((n, 0, 200 * (part == "test"))))
    monkeypatch.setattr(sources, "wheel", lambda *pinned: zipfile.ZipFile(made))
    rows = MODULE.make.__wrapped__()
    assert {k: len(r) for k, r in rows.items()} == {"train": 18, "validation": 2, "test": 4}
    pictures = {k: {row["picture"] for row in r} for k, r in rows.items()}
    assert pictures["test"] == {10, 11} and sum(map(len, pictures.values())) == 12
    every = sorted((row for r in rows.values() for row in r), key=lambda row: row["example_id"])
    assert [row["example_id"] for row in every] == [*range(24)]
    for row in every:
        assert (row["text"], row["label"]) in {("what shape?", "circle"), ("is it red?", "no")}
        n = row["picture"]
        assert (row["image"] == ([n - 10, 0, 200] if n >= 10 else [n, 0, 0])).all()
