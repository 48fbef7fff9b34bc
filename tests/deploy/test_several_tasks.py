"""A student of several tasks uses the class names of each task in tables, predictions and CSV files."""

import csv
import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import tasks
from mmkd_jax.cli.predicting import predict
from mmkd_jax.core.model import plain
from mmkd_jax.core.objective import combine
from mmkd_jax.data import InMemory, from_columns
from mmkd_jax.deploy import folder, load
from mmkd_jax.deploy.program import export_function
from mmkd_jax.errors import UserError
from mmkd_jax.training.roles import Trained
from tests.never_silent.setting import ROWS, columns, teacher_and_student, train

ANIMALS, WORDS = ("ant", "bee", "cat"), ("O", "B-X", "I-X")
NUMBER = np.arange(ROWS, dtype=np.float32)
TAGS = np.stack([NUMBER % 2 > 0, NUMBER < 0], 1).astype(np.int32)


def net():
    def apply(params, batch):
        z = batch["x"] @ params["w"]
        tags = jnp.stack([z[:, 5:8], z[:, 5:8]], 1)
        return {"animal": z[:, :3], "tone": z[:, 3:5], "prediction": z[:, 8], "tags": tags}

    return plain(apply, lambda key, batch: {"w": jax.random.normal(key, (4, 9)) * jnp.float32(0.1)})


def trainings(animals=3, names=ANIMALS):
    tone = (NUMBER % 2).astype(np.int32)
    made = columns(tone=tone, price=NUMBER, tags=TAGS, **{"tags.mask": np.ones((ROWS, 2), bool)})
    rows = InMemory(from_columns(made, "made-up", names), 4)
    each = {
        "animal": tasks.classification(animals, logits="animal"),
        "tone": tasks.classification(2, "tone", "tone"),
        "price": tasks.regression("price"),
        "words": tasks.tagging(WORDS, label="tags", logits="tags"),
    }
    task = tasks.multi_task(each, "animal")
    training = teacher_and_student(data=rows, validation=rows, test=rows, task=task)["teacher"]
    models, objective = {"teacher": Trained(net())}, combine(task=task.objective("teacher"))
    return {"several": dataclasses.replace(training, models=models, objective=objective)}


def test_names_are_those_of_the_task_with_the_label(tmp_path, capsys):
    train(tmp_path, trainings())
    report = (tmp_path / "scores.md").read_text()
    rows = [re.findall(r"[^|]+", line)[0].strip() for line in report.splitlines() if line.startswith("|")]
    assert {*ANIMALS} <= {*rows}, report
    assert not any(f"tone {name}" in report for name in ANIMALS)
    student = load(tmp_path, "several")
    x = columns()["x"]
    found = student.predict({"x": x})
    assert {*found.prediction["animal"]} <= {*ANIMALS}
    assert {*found.prediction["tone"].tolist()} <= {0, 1} and found.prediction["price"].dtype == np.float32
    assert {*found.prediction["words"].ravel()} <= {*WORDS}
    assert student.classes == () and found.probabilities is None

    lines = [json.dumps({"x": row.tolist()}) for row in x]
    (tmp_path / "new.jsonl").write_text("\n".join(lines) + "\n")
    predict([str(tmp_path), "several", "--table", str(tmp_path / "new.jsonl"), "--out", str(tmp_path / "out.csv")])
    capsys.readouterr()
    with open(tmp_path / "out.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [*table[0]][-4:] == [f"prediction.{n}" for n in ("animal", "price", "tone", "words")]
    for i, row in enumerate(table):
        assert row["prediction.animal"] == found.prediction["animal"][i]
        assert int(row["prediction.tone"]) == found.prediction["tone"][i]
        assert np.float32(row["prediction.price"]) == found.prediction["price"][i]
        assert json.loads(row["prediction.words"]) == found.prediction["words"][i].tolist()


@pytest.mark.parametrize("each", [[], {"a": "b"}, {"a": {"problem": "", "classes": "xy"}}, {"a": {"problem": ""}}])
def test_a_signature_of_other_tasks_is_refused(tmp_path, each):
    task = {"name": "multi_task", "problem": "", "metric": "accuracy", "tasks": each}
    row = jax.ShapeDtypeStruct((), "float32")
    same = export_function(lambda v, batch: {"prediction.a": v["w"] * batch["x"]}, {"w": row}, {"x": row})
    about = {"experiment": "mine", "training": "same", "model": "same", "seed": 0}
    folder.write(tmp_path / "student", same, {"w": np.array(1, np.float32)}, about=about, task=task)
    with pytest.raises(UserError, match="signature.json"):
        load(tmp_path / "student")


def test_a_task_with_another_number_of_classes_than_the_label_is_refused():
    with pytest.raises(UserError, match=r"has names of 2 classes \(ant, bee\), task 'animal' has 3 classes"):
        trainings(names=ANIMALS[:2])
