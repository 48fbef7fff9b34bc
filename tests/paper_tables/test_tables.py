"""Verdicts by the rule, cells without holes, seeds that are kept, and what a user sees."""

import json
import math

import numpy as np
import pytest

from mmkd_jax.cli.commands import main
from mmkd_jax.errors import UserError
from mmkd_jax.paper_tables import Figure, Table, figures
from mmkd_jax.paper_tables.run import run
from mmkd_jax.paper_tables.table import cells, verdict

FILE = '''"""A table of one line."""
import jax
from mmkd_jax.paper_tables import Figure, Table

def member(shared, seed, scale, kind):
    x = scale * jax.random.normal(jax.random.key(seed)) + shared
    return {"plain": x, "better": x + (1 if kind == "up" else -1)} | ({"extra": x} if kind == "up" else {})

table = Table(
    title="Made up", source="nobody, 2026", columns=("plain", "better", "extra"), member=member, seeds=6, quick=2,
    rows={"first": {"scale": 1.0, "kind": "up"}, "second": {"scale": 2.0, "kind": "down"}},
    static=("kind",), shared=lambda keep: 5.0, gains={"gain": ("better", "plain")},
    published={"first": {"plain": Figure(5.0, 10), "gain": Figure(1.0, 10)}},
    axis={"first": 0.0, "second": 1.0}, label="x",
)
'''


def test_verdicts_follow_the_rule():
    draw = np.random.default_rng(0).normal(70, 5, 100)
    mean, sd = draw.mean(), draw.std(ddof=1)
    for runs, counted in ((None, 1), (1, 1), (10, 10), (100, 100)):
        tolerance = 2 * sd * math.sqrt(1 / 100 + 1 / counted) + 0.25
        for side in (-1, 1):
            inside = verdict(draw, Figure(mean + side * (tolerance - 1e-6), runs, 0.25))
            assert inside == ("reproduced", round(tolerance, 2))
            outside = verdict(draw, Figure(mean + side * (tolerance + 1e-6), runs, 0.25))
            assert outside == ("not reproduced", round(tolerance, 2))
    wide = 2 * sd * math.sqrt(1 / 100 + 1 / 10) + 0.05
    assert verdict(draw, Figure(mean, 10), effect=2 * wide - 0.01)[0] == "not decidable"
    assert verdict(draw, Figure(mean, 10), effect=-2 * wide - 0.01)[0] == "reproduced"
    assert verdict(draw[:1], Figure(mean))[0] == "one run"


def test_a_gain_that_nobody_prints_is_the_difference_of_what_they_print():
    table = Table(
        "t",
        "s",
        {"r": {}, "q": {}},
        ("a", "b"),
        lambda shared, seed: {},
        2,
        1,
        gains={"gain": ("b", "a")},
        published=figures(["r", "q"], ("a", "b"), [(60, 62.5), (60, None)], runs=7, error=0.1),
    )
    found = cells(table, {row: {"a": [60.0, 62.0, 61.0], "b": [63.0, 64.0, 64.0]} for row in "rq"})
    gain = {c["row"]: c for c in found if c["column"] == "gain"}
    assert gain["r"]["published"] == 2.5 and gain["r"]["runs"] == 7 and gain["q"]["published"] is None
    assert gain["r"]["mean"] == pytest.approx(8 / 3)
    assert gain["r"]["sd"] == pytest.approx(np.std([3, 2, 3], ddof=1))  # of pairs
    assert gain["r"]["stderr"] == pytest.approx(np.std([3, 2, 3], ddof=1) / math.sqrt(3))
    assert gain["r"]["percentile"] == pytest.approx(100 / 3)
    assert len(found) == 6


@pytest.mark.full
def test_seeds_are_kept_and_go_on(tmp_path):
    file, folder = tmp_path / "made_up.py", tmp_path / "out"
    file.write_text(FILE)
    said = []
    few = run(file, folder, quick=True, log=said.append)
    assert [c["seeds"] for c in few] == [2] * 7 and len(said) == 2
    again = run(file, folder, quick=True, log=said.append)
    assert again == few and len(said) == 2  # at once
    more = run(file, folder, log=said.append)
    at_once = run(file, tmp_path / "other", log=said.append)
    assert more == at_once
    kept = json.loads((folder / "seeds.json").read_text())["scores"]
    np.testing.assert_allclose(np.subtract(kept["first"]["better"], kept["first"]["plain"]), 1, atol=1e-5)
    assert "extra" not in kept["second"]
    assert {p.name for p in folder.iterdir()} == {"seeds.json", "table.json", "table.md", "table.txt", "figure.png"}
    file.write_text(FILE.replace("Figure(5.0, 10)", "Figure(6.0, 10)"))  # a published figure: nothing trains again
    assert run(file, folder, log=said.append)[0]["published"] == 6 and len(said) == 6
    file.write_text(FILE.replace("2.0", "3.0"))
    with pytest.raises(UserError, match="another version of these rows: 'second': scale: 2.0 there, 3.0 now"):
        run(file, folder)
    file.write_text(FILE.replace("+ shared", "- shared"))
    with pytest.raises(UserError, match="these rows: 'first': its member changed; 'second': its member changed"):
        run(file, folder)
    file.write_text("# a comment\n" + FILE)  # is no other version
    assert run(file, folder, log=said.append) == more


def test_what_a_user_sees(tmp_path, capsys):
    file = tmp_path / "made_up.py"
    file.write_text(FILE)

    def mmkd(*words):
        with pytest.raises(SystemExit) as left:
            main(["table", *words])
        return left.value.code, *capsys.readouterr()

    code, out, err = mmkd(str(file), "--seeds", "3", "--json", "--out", str(tmp_path / "out"))
    found = json.loads(out)["cells"]
    assert (
        code == 0
        and len(found) == 7
        and {"row", "column", "published", "mean", "stderr", "seeds", "verdict"} <= set(found[0])
    )
    assert "first (1 of 2): 4 of 3 seeds" not in err and "3 of 3 seeds" in err
    code, out, _ = mmkd(str(file), "--seeds", "3", "--out", str(tmp_path / "out"))
    assert code == 0 and "Made up" in out and "reproduced" in out
    saved = tmp_path / "saved"
    saved.mkdir()
    (tmp_path / "out" / "table.json").rename(saved / "made-up.json")
    (tmp_path / "out" / "figure.png").rename(saved / "made-up.png")
    code, out, _ = mmkd("page", str(saved))
    line = out.splitlines()[2]
    assert code == 0 and line.startswith("| [Made up](made-up.md) ([figure](made-up.png)) | 3 | ") and "jax" in line
    code, _, err = mmkd("page", str(tmp_path))
    assert code == 2 and "contains no saved tables" in err
    code, out, _ = mmkd("list")
    assert code == 0 and "mfh-gamma" in out and "twomoon" in out
    code, _, err = mmkd("hinton")
    assert code == 2 and "unknown table 'hinton'" in err and "mfh-gamma" in err
    code, _, err = mmkd(str(file), "--seeds", "0", "--out", str(tmp_path / "none"))
    assert code == 2 and "--seeds 0" in err


def test_names_that_are_no_row_or_column_are_refused():
    with pytest.raises(UserError, match="published: no row x"):
        Table("t", "s", {"r": {}}, ("a",), lambda shared, seed: {}, 1, 1, published={"x": {"a": Figure(1)}})
    with pytest.raises(UserError, match="checked: no column b"):
        Table("t", "s", {"r": {}}, ("a",), lambda shared, seed: {}, 1, 1, checked={"r": {"b": Figure(1)}})


DEAR = '''"""A table whose members start from something dear."""
import dataclasses, pathlib
import numpy as np
from mmkd_jax.paper_tables import Table

CALLS = pathlib.Path(__file__).with_name("calls")

def dear():
    CALLS.write_text(CALLS.read_text() + "x" if CALLS.exists() else "x")
    return {"offset": np.float32(3)}

table = Table(
    title="Dear", source="nobody, 2026", columns=("x",),
    member=lambda shared, seed, plus: {"x": shared["offset"] + seed + plus},
    rows={"few": {"plus": 0.0}, "many": {"plus": 1.0}}, seeds={"few": 2, "many": 5}, quick=1, together=2,
    shared=lambda keep: keep("dear", dear),
)
table = dataclasses.replace(table, quick=dataclasses.replace(table, rows={"few": {"plus": 7.0}}, seeds=3))
'''


@pytest.mark.slow
def test_what_is_dear_is_kept_and_rows_have_seeds_of_their_own(tmp_path):
    file = tmp_path / "dear.py"
    file.write_text(DEAR)

    def means(folder, **how):
        return {c["row"]: (c["mean"], c["seeds"]) for c in run(file, tmp_path / folder, log=lambda line: None, **how)}

    assert means("out") == {"few": (3.5, 2), "many": (6.0, 5)}
    assert means("out") == means("out", seeds=9)
    assert means("out", seeds=1) == {"few": (3.0, 1), "many": (4.0, 1)}
    assert (tmp_path / "calls").read_text() == "x"
    (tmp_path / "out" / "seeds.json").unlink()
    assert means("out", seeds=1) == {"few": (3.0, 1), "many": (4.0, 1)}  # from what was kept
    assert (tmp_path / "calls").read_text() == "x"
    assert means("quick", quick=True) == {"few": (11.0, 3)}  # a smaller table, in a folder of its own
    with pytest.raises(UserError, match="another version of these rows: 'few': plus: 0.0 there, 7.0 now"):
        run(file, tmp_path / "out", quick=True)
    file.write_text(
        DEAR.replace('"plus": 1.0}}', '"plus": 1.0}, "new": {"plus": 2.0}}').replace(
            '"many": 5}', '"many": 5, "new": 1}'
        )
    )
    assert means("out") == {"few": (3.5, 2), "many": (6.0, 5), "new": (5.0, 1)}  # a new row trains alone
    for kept in (tmp_path / "out").glob("dear-*.npz"):
        kept.write_bytes(kept.read_bytes()[:-30])
    file.write_text(DEAR)
    assert means("out") == {"few": (3.5, 2), "many": (6.0, 5)} and list((tmp_path / "out").glob("*.npz.damaged"))


def test_a_row_without_a_number_of_seeds_is_named():
    with pytest.raises(UserError, match="seeds: no entry for row q"):
        Table("t", "s", {"r": {}, "q": {}}, ("a",), lambda shared, seed: {}, {"r": 1}, 1)


def test_a_table_of_our_own_says_what_helps(tmp_path):
    file = tmp_path / "own.py"
    body = FILE.replace('published={"first": {"plain": Figure(5.0, 10), "gain": Figure(1.0, 10)}},', "")
    body = body.replace("+ (1 if kind", "+ 1e-3 * seed + (1 if kind").replace("axis={", "axis=None and {")
    file.write_text(body)
    found = {c["row"]: c for c in run(file, tmp_path / "out", log=lambda line: None) if c["column"] == "gain"}
    assert {row: c["verdict"] for row, c in found.items()} == {"first": "helps", "second": "hurts"}
    head, _, plain, better, extra = (tmp_path / "out" / "table.md").read_text().splitlines()[2:7]
    assert head == "|  | first | second |" and plain.startswith("| plain |")
    assert better.count("↑") == better.count("↓") == 1 and "↑" not in plain + extra
    assert extra.endswith("|  |")


WHOLE = '''"""A table of mAP."""
import jax
import numpy as np
from mmkd_jax import tasks
from mmkd_jax.paper_tables import Table

LABELS = np.arange(24).reshape(12, 2) % 5 < 2
TASK = tasks.multi_label(2)

def member(shared, seed, scale):
    z = scale * shared + jax.random.normal(jax.random.key(seed), (12, 2))
    return {"logits": z, "predictions": TASK.predict({"logits": z})}

def whole(arrays, scale):
    return {"mAP": 100 * TASK.whole({**arrays, "batch.label": LABELS})["mAP"]}

table = Table(
    title="Made up", source="nobody, 2026", columns=("mAP",), member=member, whole=whole, seeds=3, quick=2,
    rows={"noise": {"scale": 0.0}, "signal": {"scale": 9.0}}, shared=lambda cached: LABELS.astype(np.float32),
)
'''


def test_a_metric_of_whole_splits_is_computed_for_each_seed(tmp_path):
    file = tmp_path / "whole.py"
    file.write_text(WHOLE)
    run(file, tmp_path / "out", log=lambda line: None)
    found = json.loads((tmp_path / "out" / "seeds.json").read_text())["scores"]
    assert found["signal"]["mAP"] == [100.0] * 3 and len({*found["noise"]["mAP"]}) == 3
    file.write_text(WHOLE.replace("100 *", "10 *"))
    with pytest.raises(UserError, match="these rows: 'noise': its whole changed"):
        run(file, tmp_path / "out", log=lambda line: None)
