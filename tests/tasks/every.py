"""One row a task: the task, its distillation, and columns that all tasks share."""

from typing import Any

import numpy as np

from mmkd_jax import losses, tasks
from mmkd_jax.core.objective import term
from mmkd_jax.core.task import Task

ROWS = 60
DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(ROWS, 3, 2, 1)).astype(np.float32)
FLAGS = (X.reshape(ROWS, 6)[:, :4] + 0.5 * DRAW.normal(size=(ROWS, 4)) > 0).astype(np.int32)
COLUMNS: dict[str, Any] = {
    "x": X,
    "example_id": DRAW.permutation(ROWS).astype(np.int32),
    "topic": np.digitize(X[:, 0, 0, 0], [-0.5, 0.5]).astype(np.int32),
    "flags": np.where(DRAW.random((ROWS, 4)) < 0.2, -1, FLAGS).astype(np.int32),
    "mood": (X[:, 1, 0, 0] + 0.1 * DRAW.normal(size=ROWS)).astype(np.float32),
    "rated": np.arange(ROWS) % 3 > 0,
    "answers": np.array([0, 0, 0.3, 1], np.float32)[X.reshape(ROWS, 6)[:, :4].argsort(1).argsort(1)],
}
COLUMNS["mood"] = np.where(COLUMNS["rated"], COLUMNS["mood"], np.nan).astype(np.float32)
COLUMNS["score"] = X[:, 2, 0, 0]


def logits_kl(name="logits"):
    return term(losses.kl, student=f"student.{name}", teacher=f"teacher.{name}", temperature=2.0)


def binary_kl():
    return term(losses.binary_kl, student="student.logits", teacher="teacher.logits")


BOTH = {"topic": tasks.classification(3, "topic", "topic"), "mood": tasks.regression("mood")}
TASKS: dict[str, tuple[Task, Any]] = {
    "classification": (tasks.classification(3, "topic"), logits_kl()),
    "regression": (
        tasks.regression("score"),
        term(losses.mse, predictions="student.prediction", targets="teacher.prediction"),
    ),
    "multi_label": (tasks.multi_label(4, label="flags"), binary_kl()),
    "ordinal_coral": (tasks.ordinal(3, label="topic"), binary_kl()),
    "ordinal_corn": (tasks.ordinal(3, "corn", "topic"), binary_kl()),
    "ordinal_expected": (tasks.ordinal(3, "expected", "topic"), logits_kl()),
    "visual_questions": (tasks.visual_questions(4, "answers"), binary_kl()),
    "multi_task": (tasks.multi_task(BOTH, "topic", where={"mood": "rated"}), logits_kl("topic")),
}
