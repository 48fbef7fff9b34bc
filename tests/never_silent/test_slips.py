"""What can be wrong with a run is found before its first step; after training, nothing raises."""

import dataclasses
import inspect
import json
import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmkd_jax.core.model import plain
from mmkd_jax.core.objective import combine
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import explain, final_report
from mmkd_jax.reporting import report
from mmkd_jax.tasks import classification, regression
from mmkd_jax.training.roles import Frozen, Trained
from mmkd_jax.training.training import Training
from tests.never_silent.setting import ROWS, columns, experiment, loader, model, teacher_and_student, train


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"baseline": "nope"}, "baseline 'nope' is not one of the trainings"),
        ({"report": lambda results: None}, r"report must take \(config, results, folder\)"),
    ],
)
def test_of_the_report_are_found_before_anything_runs(more, words, tmp_path):
    """A wrong baseline, or a report function with the wrong signature → refused before anything runs."""
    with pytest.raises(UserError, match=words):
        train(tmp_path / "run", teacher_and_student(), **more)
    with pytest.raises(UserError, match=words):
        explain(experiment(teacher_and_student(), **more))
    assert not (tmp_path / "run").exists()


def test_a_report_that_fails_is_a_line_and_is_called_again(tmp_path):
    """The experiment's own report fails → logged; results are kept, and the same command calls it again."""
    lines, calls = [], []

    def hook(config, results, folder):
        calls.append(sorted(results))
        if len(calls) == 1:
            raise FileNotFoundError("no font")

    results = train(tmp_path, teacher_and_student(), report=hook, lines=lines)
    assert any("report failed (FileNotFoundError: no font)" in line for line in lines)
    assert set(results) == {"teacher", "kd"} and (tmp_path / "results.json").is_file()
    lines.clear()
    train(tmp_path, teacher_and_student(), report=hook, lines=lines)
    assert calls == [["kd", "teacher"]] * 2 and sum("finished earlier" in line for line in lines) == 2


# every function of a report that draws
FIGURES = ("curves", "by_class", "confusion", "examples")


def test_every_figure_is_covered():
    drawing = {
        n for n, f in vars(report).items() if inspect.isfunction(f) and "    save_figure(" in inspect.getsource(f)
    }
    assert drawing == set(FIGURES)


def pictures(shape):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(ROWS, *shape)).astype(np.float32)
    label = columns()["label"]
    net = plain(
        lambda params, batch: {"logits": batch["image"].reshape(len(batch["image"]), -1)[:, :4] @ params["w"]},
        lambda key, batch: {"w": jnp.ones((4, 3)) * 0.1},
    )
    return {"image": x, "label": label}, net


@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_that_cannot_be_drawn_is_left_out(figure, tmp_path, monkeypatch):
    """A figure that cannot be drawn, because no matplotlib backend is available → skipped, with a log message."""

    def broken(*arguments, **options):
        raise ImportError("no backend")

    monkeypatch.setattr(report, figure, broken)
    rows, net = pictures((4, 4, 1))
    lines = []
    shared = {s: loader(rows) for s in ("data", "validation", "test")}
    trainings = {"teacher": teacher_and_student(**shared)["teacher"]}
    trainings["teacher"] = dataclasses.replace(trainings["teacher"], models={"teacher": Trained(net)})
    train(tmp_path, trainings, lines=lines)
    assert any("is skipped (ImportError: no backend)" in line for line in lines)
    others = {n: f"{n}.png" for n in FIGURES} | {"curves": "learning_curves.png"}
    for name, file in others.items():
        assert (tmp_path / "figures" / file).exists() == (name != figure)
    assert (tmp_path / "table.txt").exists()


@pytest.mark.parametrize("shape", [(16,), (4, 4, 5), (2, 4, 4, 3), (4, 4), (4, 4, 1), (4, 4, 4)])
def test_inputs_that_are_no_pictures_are_left_out(shape, tmp_path):
    """Validation inputs that are waveforms, vectors, video or five channels → skipped, with a log message."""
    rows, net = pictures(shape)
    lines = []
    shared = {s: loader(rows) for s in ("data", "validation", "test")}
    trainings = {"teacher": teacher_and_student(**shared)["teacher"]}
    trainings["teacher"] = dataclasses.replace(trainings["teacher"], models={"teacher": Trained(net)})
    train(tmp_path, trainings, lines=lines)
    drawn = len(shape) == 2 or (len(shape) == 3 and shape[-1] != 5)
    assert (tmp_path / "figures" / "examples.png").exists() == drawn
    assert any("image" in line and "is skipped" in line for line in lines) != drawn


def two_tasks():
    """A classifier, and a regression on other rows with other columns."""
    rating = np.linspace(-1, 1, ROWS)
    rows = loader({"y": columns()["x"][:, :2], "rating": rating, "image": np.zeros((ROWS, 3, 3))})
    net = plain(
        lambda params, batch: {"prediction": batch["y"] @ params["w"]}, lambda key, batch: {"w": jnp.ones(2) * 0.1}
    )
    task = regression("rating")
    other = Training(
        models={"student": Trained(net)},
        objective=combine(task=task.objective("student")),
        **{"optimizer": optax.sgd(0.1), "task": task, "data": rows, "validation": rows, "test": rows, "steps": 2},
    )
    return teacher_and_student() | {"rater": other}


def test_trainings_of_several_tasks_have_a_table_each(tmp_path):
    """Trainings of several tasks in one experiment → a table each; the baseline compares within its own."""
    train(tmp_path, two_tasks(), baseline="teacher")
    text = (tmp_path / "table.txt").read_text()
    assert "accuracy, %" in text and "pearson" in text and "against teacher" in text
    tables = json.loads((tmp_path / "table.json").read_text())["tables"]
    assert [(t["metric"], t["baseline"], [r["training"] for r in t["rows"]]) for t in tables] == [
        ("accuracy", "teacher", ["teacher", "kd"]),
        ("pearson", None, ["rater"]),
    ]
    assert (tmp_path / "figures" / "examples_rater.png").exists()


def test_a_frozen_model_may_be_evaluated(tmp_path):
    """`evaluate` names a frozen model → evaluated."""
    trainings = teacher_and_student()
    trainings["kd"] = dataclasses.replace(trainings["kd"], evaluate="teacher")
    after = train(tmp_path, trainings)
    assert after["kd"][0]["accuracy"] == after["teacher"][0]["accuracy"]
    assert isinstance(trainings["kd"].models["teacher"], Frozen)


def test_predictions_are_drawn_of_own_rows(tmp_path):
    """Trainings validated on other rows → each model sees its own rows."""
    seen = []
    trainings = two_tasks()
    final_report.write_report(
        tmp_path,
        "t",
        {"rater": trainings["rater"]},
        {"rater": [finished()]},
        None,
        lambda name: {},
        lambda own: [],
        seen.append,
    )
    assert any("predictions of 'rater' are skipped" in line for line in seen)
    assert classification and model


def finished():
    history = [{"step": 2, "loss": 1.0, "pearson": 0.5}]
    return {"pearson": 0.5, "mae": 0.1, "validation": 0.5, "history": history, "per_class": {}}


@pytest.mark.full
@pytest.mark.parametrize("words", [["--help"], ["losses"], ["explain", "tests/tiny_experiment.py"]])
def test_a_terminal_without_the_characters(words):
    """A terminal that is not UTF-8, or a wrong MPLBACKEND → `?` for a missing character, exit code 0."""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "MPLBACKEND": "none"}
    done = subprocess.run([sys.executable, "-m", "mmkd_jax.cli", *words], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout and max(done.stdout) < 128
