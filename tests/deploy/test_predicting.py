"""`mmkd predict`: rows in order from options and tables, and one line for each mistake."""

import csv
import json

import pytest

from mmkd_jax import cli
from mmkd_jax.experiment import RunOptions, definition, run
from tests.deploy.pets import EXPERIMENT, record


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predicting")
    (folder / "pets.py").write_text(EXPERIMENT)
    run(definition.load(folder / "pets.py"), options=RunOptions(folder / "run"))
    (folder / "pets.py").unlink()
    for i in range(3):
        record(folder / f"{i}.wav", samples=5 + i)
    rows = [f"{'' if i == 4 else f'{i % 3}.wav'},{i / 8},{('cat', 'dog', '')[i % 3]}" for i in range(7)]
    (folder / "new.csv").write_text("\n".join(["call,age,species", *rows]) + "\n")
    return folder


def call(capsys, *words):
    with pytest.raises(SystemExit) as end:
        cli.main(["predict", *map(str, words)])
    printed = capsys.readouterr()
    return end.value.code or 0, printed.out, printed.err


def test_values_become_json_lines_in_order_and_an_empty_one_is_missing(place, capsys):
    waves = [place / "0.wav", "", place / "2.wav"]
    code, out, err = call(capsys, place / "run", "own", "--call", *waves, "--age", "0.5", "0.5", "1")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [r["row"] for r in rows] == [0, 1, 2] and "3 rows in" in err
    assert rows[1]["inputs"] == {"age": "0.5", "call": ""} and rows[0]["probability"] != rows[1]["probability"]
    for row in rows:
        assert row["prediction"] == max(row["probabilities"], key=row["probabilities"].get)
    student = place / "run/trainings/own/0/student"
    code, again, _ = call(capsys, student, "--call", *waves, "--age", "0.5", "0.5", "1")
    assert code == 0 and again == out


def test_a_table_gives_the_same_rows_as_csv_and_as_json_lines_for_any_batch_size(place, capsys, tmp_path):
    words = (place / "run", "own", "--table", place / "new.csv")
    code, out, err = call(capsys, *words, "--label", "species")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(lines) == 7 and "accuracy" in err and "on 5 rows with a label" in err
    for size in (2, 4):
        code, _, _ = call(capsys, *words, "--out", tmp_path / "new.csv", "--batch-size", size)
        rows = list(csv.DictReader((tmp_path / "new.csv").open()))
        assert code == 0 and [int(r["row"]) for r in rows] == list(range(7)) and rows[4]["call"] == ""
        assert [r["prediction"] for r in rows] == [r["prediction"] for r in lines]
        for row, line in zip(rows, lines, strict=True):
            assert float(row["probability.cat"]) == pytest.approx(line["probabilities"]["cat"], rel=1e-5)
    assert [p.name for p in tmp_path.iterdir()] == ["new.csv"]


def test_help_lists_the_inputs(place, capsys):
    code, out, _ = call(capsys, place / "run", "own", "--help")
    assert code == 0 and "--call" in out and "--age" in out and "--batch-size" in out and "--present" not in out
    code, out, _ = call(capsys, "--help")
    assert code == 0 and "mmkd predict RUN TRAINING" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "owl", "--age", "1"), "has no training 'owl'; its trainings are: evaluated, own"),
        (("run", "own", "--seed", "2", "--age", "1"), "has no finished seed 2; finished are: 0"),
        (("run", "own", "--seed", "two", "--age", "1"), "--seed: invalid value 'two', expected INT"),
        (("run", "own"), "no rows: give --call, --age, or --table"),
        (("run", "own", "--cal", "1"), "unknown option --cal"),
        (("run", "own", "1.wav"), "unexpected '1.wav' after the run and the training"),
        (("run", "own", "--age", "old"), "--age old (row 0): expected a number"),
        (("run", "own", "--age", "1", "2", "--call", "0.wav"), "different numbers of values"),
        (("run", "own", "--age", "[1", "--call", ""), "--age [1 (row 0): expected a number, or a list of them"),
        (("run", "own", "--age", "1", "--call", "nope.wav"), "call 0: there is no file nope.wav"),
        (("run", "own", "--table", "new.csv", "--label", "sex"), "sex"),
        (("run", "own", "--table", "fox.csv", "--label", "species"), "row 1 (line 3): label 'fox' is not a class"),
        (("run", "own", "--table", "fox.csv", "--out", "fox.csv"), "--out and --table are both"),
        (("run", "own", "--table", "fox.csv", "--out", "fox.txt"), "expected a file that ends in .csv, .jsonl"),
        (("run", "own", "--age", "1", "--label", "species"), "--label names a column of --table"),
        (("run", "own", "--table", "new.csv", "--batch-size", "0"), "--batch-size is 0; expected at least 1"),
        (("nowhere", "own", "--age", "1"), "is not the folder of a run"),
    ],
)
def test_a_mistake_is_one_line(place, capsys, monkeypatch, words, message):
    monkeypatch.chdir(place)
    (place / "fox.csv").write_text("call,age,species\n,1,cat\n,2,fox\n")
    code, out, err = call(capsys, *words)
    assert code == 2 and message in err and err.count("\n") == 1 and out == "" and len(err) < 500, err
    assert not list(place.glob(".*"))
