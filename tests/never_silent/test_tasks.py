"""Labels that a task cannot mean, and heads of another task: refused by row before the first step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import tasks
from mmkd_jax.core.model import plain
from mmkd_jax.core.objective import combine
from mmkd_jax.errors import UserError
from mmkd_jax.training.roles import Trained
from tests.never_silent.setting import ROWS, columns, loader, teacher_and_student, train

TOKENS = 3
FLAGS = (np.arange(ROWS)[:, None] % np.array([2, 3, 4]) == 0).astype(np.int32)
LEVELS = (np.arange(ROWS) % 3).astype(np.int32)
WORDS = np.arange(TOKENS) < 1 + np.arange(ROWS)[:, None] % TOKENS
TAGS = ("O", "B-X", "I-X")
BEGUN = np.where(np.arange(TOKENS) == 0, 1, 0) + np.zeros((ROWS, 1), np.int32)
SCORES = (FLAGS * 0.3).astype(np.float32)
RATED = np.arange(ROWS) % 2 == 0


def net(width=3, tokens=False):
    """A linear model with logits, of each token if there are any; and a number."""

    def apply(params, batch):
        logits = batch["x"] @ params["w"]
        logits = jnp.repeat(logits[:, None], TOKENS, 1) if tokens else logits
        return {"logits": logits, "prediction": batch["x"][:, 0] * params["w"][0, 0]}

    return plain(apply, lambda key, batch: {"w": jax.random.normal(key, (4, width)) * jnp.float32(0.1)})


def refused(tmp_path, task, model, good=None, **changes):
    """The message of a run that did not take a step; with `good`, validation and test data have its columns."""
    seen = {"data": loader(columns(**changes))}
    seen |= dict.fromkeys(("validation", "test"), loader(columns(**good)) if good else seen["data"])
    training = teacher_and_student(**seen)["teacher"]
    models, objective = {"teacher": Trained(model)}, combine(task=task.objective("teacher"))
    training = dataclasses.replace(training, models=models, objective=objective, task=task)
    with pytest.raises(UserError) as error:
        train(tmp_path / "run", {"teacher": training})
    assert not (tmp_path / "run/trainings").exists() and len(str(error.value)) < 500
    return str(error.value)


def at(values, place, value):
    values = values.copy()
    values[place] = value
    return values


def test_flags_of_classes(tmp_path):
    """A label of a class that is not 1, 0 or −1 → refused by row and column; labels of fewer classes → refused."""
    task, good = tasks.multi_label(3), {"label": FLAGS}
    said = refused(tmp_path, task, net(), good, label=at(FLAGS, (5, 1), 2))
    assert "'label' is 2 in row 5, column 1 (1 such rows): expected 1 (applies), 0 (does not) or −1" in said
    assert "'label' has shape [12, 2]; multi_label needs [rows, 3]" in refused(
        tmp_path, task, net(), good, label=FLAGS[:, :2]
    )


def test_flags_without_a_positive(tmp_path):
    """Validation or test rows to none of which a class applies → refused, as mAP is undefined."""
    assert "no class applies to any row by 'label': mAP is undefined" in refused(
        tmp_path, tasks.multi_label(3), net(), {"label": 0 * FLAGS - (FLAGS == 1)}, label=FLAGS
    )


@pytest.mark.full
def test_levels(tmp_path):
    """A level out of range, or no integers → refused by row; one level for all of validation → refused."""
    task, good = tasks.ordinal(3), {"label": LEVELS}
    said = refused(tmp_path, task, net(2), good, label=at(LEVELS, 7, 3))
    assert "'label' is 3 in row 7 (1 such rows): levels must be 0 … 2" in said
    said = refused(tmp_path, task, net(2), good, label=LEVELS.astype(np.float32))
    assert (
        "labels 'label' are float32; ordinal needs integers 0 … 2: row 0 has 0.0; convert them with .astype(np.int32)"
        in said
    )
    said = refused(tmp_path, task, net(2), good, label=LEVELS + np.where(np.arange(ROWS) == 4, 0.5, 0).astype("f"))
    assert "labels 'label' are float32; ordinal needs integers 0 … 2: row 4 has 1.5" in said
    said = refused(tmp_path, task, net(2), {"label": 0 * LEVELS + 1}, label=LEVELS)
    assert "all rows have the level 1 by 'label': kappa is undefined" in said


def test_tags(tmp_path):
    """A tag out of range → ignored where `label.mask` is False; refused by row and token where it is True."""
    task, good = tasks.tagging(TAGS), {"label": BEGUN, "label.mask": WORDS}
    task.check({**good, "label": np.where(WORDS, BEGUN, -7)})
    said = refused(tmp_path, task, net(tokens=True), good, **{**good, "label": at(BEGUN, (4, 1), 3)})
    assert "label 3 in row 4, token 1 is out of range (1 such tokens)" in said


def test_tags_without_masks_or_spans(tmp_path):
    """Tags without `label.mask`, or validation rows in which no span begins → refused."""
    task, good = tasks.tagging(TAGS), {"label": BEGUN, "label.mask": WORDS}
    said = refused(tmp_path, task, net(tokens=True), good, label=BEGUN)
    assert "path 'batch.label.mask': 'batch' has no 'label.mask'" in said
    said = refused(tmp_path, task, net(tokens=True), {**good, "label": 0 * BEGUN}, **good)
    assert "labels 'label' begin no span, so that their F1 is undefined" in said


def test_scores_of_answers(tmp_path):
    """A score of an answer outside 0 … 1, or one integer a row in place of scores → refused by row."""
    task, good = tasks.visual_questions(3), {"label": SCORES}
    said = refused(tmp_path, task, net(), good, label=at(SCORES, (2, 1), 1.5))
    assert "'label' is 1.5 in row 2, column 1 (1 such rows): scores must be 0 … 1" in said
    assert "'label' has shape [12]; visual_questions needs [rows, 3]" in refused(
        tmp_path, task, net(), good, label=LEVELS
    )


@pytest.mark.full
def test_texts_to_generate(tmp_path):
    """Negative token ids, a mask of numbers, or validation texts of which nothing comes after the prompt → refused."""
    task = tasks.generation(prompt="text.prompt")
    good = {"text.ids": FLAGS, "text.mask": WORDS | True, "text.prompt": np.arange(TOKENS) < 1 + 0 * FLAGS}
    model = net(tokens=True)
    said = refused(tmp_path, task, model, good, **{**good, "text.ids": at(FLAGS, (3, 2), -1)})
    assert "'text.ids' is -1 in row 3, column 2 (1 such rows): token ids are 0 or more" in said
    said = refused(tmp_path, task, model, good, **{**good, "text.prompt": FLAGS})
    assert "'text.prompt' is int32; generation needs a bool mask" in said
    said = refused(tmp_path, task, model, {**good, "text.prompt": WORDS | True}, **good)
    assert "no token of 'text' comes after its prompt: there is nothing to predict" in said


@pytest.mark.full
def test_labels_of_one_of_several_tasks(tmp_path):
    """A wrong label of one of several tasks → ignored in rows that `where` excludes; else refused by task and row."""
    both = {"level": tasks.ordinal(3), "value": tasks.regression("value")}
    task = tasks.multi_task(both, "level", where={"value": "rated"})
    value = np.where(RATED, np.arange(ROWS), np.nan).astype(np.float32)
    good = {"label": LEVELS, "value": value, "rated": RATED}
    task.check(good)
    said = refused(tmp_path, task, net(2), good, **{**good, "value": at(value, 4, np.nan)})
    assert "value: label nan in row 4 is not finite (1 such rows)" in said
    said = refused(tmp_path, task, net(2), good, **{**good, "label": at(LEVELS, 1, -1)})
    assert "level: 'label' is -1 in row 1 (1 such rows): levels must be 0 … 2" in said
    said = refused(tmp_path, task, net(2), good, **{**good, "rated": RATED.astype(np.int32)})
    assert "where={'value': 'rated'} names int32; expected a bool column" in said
    said = refused(tmp_path, task, net(2), {**good, "rated": RATED & False}, **good)
    assert "value: no row has a label by 'rated': its metrics are undefined here" in said


@pytest.mark.parametrize("several", [False, True], ids=["one task", "several tasks"])
def test_a_label_as_an_input(tmp_path, several):
    """A student that reads the label that it is to predict → refused, alone or as one of several tasks."""

    def apply(params, batch):
        return {"logits": batch["x"] @ params["w"], "prediction": batch["value"] * params["w"][0, 0]}

    reader = plain(apply, lambda key, batch: {"w": jax.random.normal(key, (4, 3)) * jnp.float32(0.1)})
    task = tasks.regression("value")
    if several:
        task = tasks.multi_task({"kind": tasks.classification(3), "cost": task}, "kind")
    said = refused(tmp_path, task, reader, value=LEVELS.astype(np.float32))
    assert "'teacher' reads 'value', the label of task 'regression', as an input" in said


@pytest.mark.parametrize("name", ["multi_label", "ordinal", "tagging", "visual_questions"])
def test_a_head_of_another_task(tmp_path, name):
    """Logits of another number of classes, levels, tags or answers than the task's → refused before the first step."""
    task, label = {
        "multi_label": (tasks.multi_label(3), {"label": FLAGS}),
        "ordinal": (tasks.ordinal(3), {"label": LEVELS}),
        "tagging": (tasks.tagging(TAGS), {"label": BEGUN, "label.mask": WORDS}),
        "visual_questions": (tasks.visual_questions(3), {"label": SCORES}),
    }[name]
    said = refused(tmp_path, task, net(5, tokens=name == "tagging"), label, **label)
    assert "5" in said and "3" in said
