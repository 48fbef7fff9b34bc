"""It is fetched and prepared whole by `python -m pytest -m slow tests/data/test_icons.py`."""

import json
import pathlib

import matplotlib
import numpy as np
import pytest
from PIL import Image

from mmkd_jax import data
from mmkd_jax.data import commands, sources

MODULE = commands._module("icons")
SPLITS = ("train", "validation", "test")


@pytest.mark.slow
def test_it_is_all_there(tmp_path):
    said = commands.prepare("icons", tmp_path)
    assert said.count("equal to the recorded rows") == 3 and "DIFFERS" not in said
    columns = {s: data.load("icons", s, tmp_path).columns for s in SPLITS}
    every = {k: np.concatenate([c[k] for c in columns.values()]) for k in columns["train"]}
    np.testing.assert_array_equal(np.sort(every["example_id"]), np.arange(5_129))
    assert every["label"].sum(0).min() >= 50 and every["label"].sum(0).max() == 655
    assert [len(c["label"]) for c in columns.values()] == [3_501, 406, 1_222]
    families = [{*c["family"].tolist()} for c in columns.values()]
    assert sum(map(len, families)) == len(set.union(*families)) == 1_560
    assert all(np.bincount(columns[s]["family"]).max() <= MODULE.LARGEST for s in ("validation", "test"))
    at = {t.decode(): i for i, t in enumerate(every["text"])}
    lock = every["label"][at["book lock outline, book secure outline"]]
    assert [MODULE.TAGS[i] for i in np.flatnonzero(lock)] == ["Lock"]
    assert (every["image"] == 0).any((1, 2, 3)).mean() > 0.99  # something is black
    _, first, same = np.unique(every["image"].reshape(5_129, -1), axis=0, return_index=True, return_inverse=True)
    np.testing.assert_array_equal(every["family"], every["family"][first][same])
    square = every["image"][at["square"], ..., 0]
    assert (square[5:-5, 5:-5] == 0).all() and (square[:3] == 255).all() and (square[:, :3] == 255).all()


@pytest.fixture
def small(monkeypatch):
    """Packages of the same layout: letters of another font, a large family, icons without tags, two that look alike."""

    def icon(name, letter, base, tags, aliases=(), deprecated=False):
        about = {"codepoint": f"{ord(letter):X}", "baseIconId": base, "deprecated": deprecated}
        return {"id": name, "name": name, "tags": list(tags), "aliases": list(aliases), **about}

    large = [icon(f"up-{i}", chr(ord("À") + i), "up", ["Arrow"]) for i in range(31)]
    others = [icon(f"letter-{x}", x, x, ["Lock", "Rare"], [f"sign-{x}", "of-it"]) for x in "BCDEFGHIJK"]
    alike = [icon("letter-l", "L", "l", ["Weather", "Lock"]), icon("el", "L", "el", ["Rare"])]
    left_out = [icon("untagged", "M", "m", []), icon("brand", "N", "n", ["Lock"], deprecated=True)]
    font = pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf").read_bytes()
    packages = {
        "@mdi/svg": {"package/meta.json": json.dumps(large + left_out + others + alike).encode()},
        "@mdi/font": {"package/fonts/materialdesignicons-webfont.ttf": font},
    }
    monkeypatch.setattr(sources, "npm", lambda name, *_: packages[name])
    MODULE.make.cache_clear()
    yield
    MODULE.make.cache_clear()


def test_small_packages_are_joined_drawn_and_split(small, tmp_path):
    commands.prepare("icons", tmp_path)
    splits = {s: data.load("icons", s, tmp_path) for s in SPLITS}
    columns = {s: x.columns for s, x in splits.items()}
    every = {k: np.concatenate([c[k] for c in columns.values()]) for k in columns["train"]}
    of = {t.decode(): i for i, t in enumerate(every["text"])}
    assert len(of) == len(every["example_id"]) == 43 and "untagged" not in of and "brand" not in of
    assert [len(c["label"]) for c in columns.values()] == [37, 2, 4]
    families = [{*c["family"].tolist()} for c in columns.values()]
    assert sum(map(len, families)) == len(set.union(*families)) == 12
    assert {f"up {i}".encode() for i in range(31)} <= {*columns["train"]["text"].tolist()}
    assert every["family"][of["letter l"]] == every["family"][of["el"]]
    names = {t: [MODULE.TAGS[i] for i in np.flatnonzero(every["label"][row])] for t, row in of.items()}
    assert names["letter B, sign B, of it"] == ["Lock"] and names["letter l"] == ["Lock", "Weather"]
    assert names["el"] == [] and names["up 0"] == ["Arrow"]
    assert (every["image"].min((1, 2, 3)) == 0).all() and (every["image"][:, 0, 0] == 255).all()
    assert splits["test"].about["classes"] == list(MODULE.TAGS) and len({*MODULE.TAGS}) == 46


def test_a_picture_of_an_icon_is_read_as_the_icon(small, tmp_path):
    """Black on transparent, as drawing programs write icons."""
    (rows,) = [MODULE.make()["test"]]
    image = rows[0]["image"]
    black = np.concatenate([np.zeros((32, 32, 3), np.uint8), 255 - image], -1)
    Image.fromarray(black).resize((64, 64), Image.Resampling.NEAREST).save(tmp_path / "icon.png")
    np.testing.assert_array_equal(MODULE.PREPROCESS[0]([tmp_path / "icon.png"])["image"][0], image)
