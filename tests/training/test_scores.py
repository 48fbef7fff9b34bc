"""Metrics over whole splits: the same for any batch size, the headline of a training, NaN never in silence."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import data
from mmkd_jax.core.model import plain, predict
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import definition
from mmkd_jax.tasks import classification, measure
from mmkd_jax.training import scores
from tests import tiny_experiment
from tests.training.test_loop import fit

TRAINING = tiny_experiment.trainings(tiny_experiment.Config(steps=20))["teacher"]


def auroc(rows):
    """P(s⁺ > s⁻) + ½ P(s⁺ = s⁻) of class 0 against the others, by enumeration."""
    s, positive = rows["logits"][:, 0], rows["batch.label"] == 0
    pairs = s[positive][:, None] - s[~positive][None]
    return {"auroc": np.mean((pairs > 0) + 0.5 * (pairs == 0))}


TASK = classification(3)._replace(metric="auroc", rows=("logits", "batch.label"), whole=auroc)
DRAW = np.random.default_rng(0)
COLUMNS = {"x": DRAW.normal(size=(100, 3)).astype(np.float32), "label": DRAW.integers(0, 3, 100).astype(np.int32)}
COLUMNS |= {"example_id": DRAW.permutation(100).astype(np.int32)}
NET = plain(lambda params, batch: {"logits": 2 * batch["x"]})
MEASURE = jax.jit(lambda variables, batch: measure(TASK, predict(NET, variables, batch), batch))


def scored(batches, task=TASK):
    return scores.evaluate(task, MEASURE, {"params": {}}, batches, "test")


def in_batches_of(size):
    return list(data.InMemory(data.from_columns(COLUMNS, "made-up"), size).eval_batches())


def test_no_bit_depends_on_the_batch_size_or_on_the_order_of_rows():
    by_order = TASK._replace(whole=lambda rows: {"sum": np.add.reduce(rows["logits"][:, 0])})  # in float32
    found = [scored(batches, by_order)["sum"].item() for size in (7, 64, 100) for batches in [in_batches_of(size)]]
    assert len(set(found)) == 1
    assert scored(in_batches_of(64)[::-1], by_order)["sum"].item() == found[0]


def test_padding_is_left_out():
    found = scored(in_batches_of(64))
    assert found["auroc"] == auroc({"logits": COLUMNS["x"], "batch.label": COLUMNS["label"]})["auroc"]
    assert set(found) == {"accuracy", "auroc"}


def test_it_is_the_headline_of_a_training(tmp_path):
    training = dataclasses.replace(TRAINING, task=TASK)
    program, fitted = fit(training, tmp_path / "c")
    looks = [h["auroc"] for h in fitted.history]
    assert fitted.best == max(looks) and fitted.best_step == fitted.history[int(np.argmax(looks))]["step"]
    batches = training.validation.eval_batches()
    assert scores.evaluate(TASK, program.measure, fitted.variables["teacher"], batches)["auroc"] == fitted.best


def test_what_it_reads_and_nothing_has_is_refused(tmp_path):
    training = dataclasses.replace(TRAINING, task=TASK._replace(rows=("logits", "batch.group")))
    with pytest.raises(UserError, match="the evaluation of 'teacher' reads 'group', which is neither"):
        definition.check({"teacher": training}, {})


def test_what_it_reads_and_is_not_finite_is_refused():
    columns = COLUMNS | {"x": np.where(np.arange(100)[:, None] == 41, np.nan, COLUMNS["x"]).astype(np.float32)}
    batches = data.InMemory(data.from_columns(columns, "made-up"), 64).eval_batches()
    read = TASK._replace(metrics=lambda outputs, batch: {"one": (jnp.ones(()), jnp.ones(()))}, scores=dict)
    with pytest.raises(UserError, match="output 'logits' is not finite in row 41 of test"):
        scores.evaluate(read, lambda v, b: measure(read, predict(NET, v, b), b), {"params": {}}, batches, "test")


def test_a_name_of_both_is_refused():
    with pytest.raises(UserError, match="task 'classification': its `scores` and its `whole` both return 'accuracy'"):
        scored(in_batches_of(64), TASK._replace(whole=lambda rows: {"accuracy": 1.0}))


def test_it_is_called_without_rows_too():
    """A task that forgets `rows` fails where `whole` reads one; its metrics are not left out in silence."""
    task = TASK._replace(rows=())
    with pytest.raises(KeyError, match="logits"):
        scores.evaluate(task, lambda v, b: measure(task, predict(NET, v, b), b), {"params": {}}, in_batches_of(64))


def test_more_rows_than_can_be_held_are_refused(monkeypatch):
    monkeypatch.setattr(scores, "LARGEST", 1_000)
    with pytest.raises(UserError, match=r"test: task 'classification' reads logits, batch.label of all rows at once"):
        scored(in_batches_of(64))


def test_more_rows_than_fit_are_refused_before_the_first_step(monkeypatch):
    monkeypatch.setattr(scores, "LARGEST", 100)
    with pytest.raises(UserError, match=r"validation data: task 'classification' reads logits, batch.label of all row"):
        definition.check({"teacher": dataclasses.replace(TRAINING, task=TASK)}, {})
