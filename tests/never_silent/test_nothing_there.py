"""Where there is nothing, it is named before training, or the number is right."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.core import population
from mmkd_jax.core.model import plain
from mmkd_jax.data import GrainLoader, InMemory, from_columns
from mmkd_jax.data import loader as loaders
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import RunOptions, run
from mmkd_jax.tasks import classification
from mmkd_jax.training import teacher_outputs
from mmkd_jax.training.scores import evaluate
from tests.never_silent.setting import ROWS, Config, columns, experiment, loader, teacher_and_student, train

KINDS = (InMemory, GrainLoader)


def test_every_loader_is_covered():
    made = {InMemory, GrainLoader}
    assert {k for k in vars(loaders).values() if isinstance(k, type) and issubclass(k, tuple(made))} <= made
    assert set(KINDS) == made


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows_are_named(kind):
    """A data set, or a filter, without rows → refused by name when the loader is made."""
    rows = from_columns(columns(labelled=np.zeros(ROWS, bool)), "made-up")
    with pytest.raises(UserError, match="data set 'made-up' has no rows where labelled"):
        kind(rows.where("labelled"), 4)
    with pytest.raises(UserError, match="data set 'none' has no rows"):
        kind(from_columns({"x": np.zeros((0, 2))}, "none"), 4)
    with pytest.raises(UserError, match="data set 'none' has no columns"):
        kind(from_columns({}, "none"), 4)
    assert kind(rows.where("labelled", False), 4).size == ROWS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 3])
def test_a_batch_larger_than_the_data_holds_whole_epochs(kind, n):
    """A batch larger than the data → each epoch takes all rows, and evaluation counts each row once."""
    rows = kind(from_columns({"x": np.arange(float(n))}, "few"), 7)
    batch = next(iter(rows.batches(0)))
    for epoch in range(7 // n):
        assert sorted(np.asarray(batch["x"])[np.asarray(batch["view_index"]) == epoch].tolist()) == list(range(n))
    (whole,) = rows.eval_batches()
    assert np.asarray(whole["valid"]).sum() == n


@pytest.mark.parametrize("field", ["steps", "evaluate_every", "save_every", "keep_last"])
def test_zero_of_what_is_counted_is_refused(field):
    """Zero steps, evaluations or checkpoints → refused by name."""
    with pytest.raises(UserError, match=f"{field}=0: expected at least 1"):
        teacher_and_student(**{field: 0})


@pytest.mark.parametrize("seeds", [0, -1, 1.5])
def test_no_seeds(seeds, tmp_path):
    """Zero, negative or fractional seeds → refused before a folder is made."""
    with pytest.raises(UserError, match=f"seeds is {seeds}; expected an integer of at least 1"):
        run(experiment(teacher_and_student()), Config(seeds=seeds), options=RunOptions(out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("stream", [False, True])
def test_one_row_is_trained_on_and_evaluated(stream, tmp_path):
    """One row → trained on and evaluated."""
    one = {k: x[:1] for k, x in columns().items()}
    result = train(tmp_path, teacher_and_student(**{s: loader(one, stream) for s in ("data", "validation", "test")}))
    assert result["kd"][0]["accuracy"] in (0.0, 1.0)


def test_a_class_without_rows_has_no_accuracy(tmp_path):
    """A class without test rows → no accuracy (null), not 0."""
    label = np.minimum(columns()["label"], 1)
    result = train(tmp_path, teacher_and_student(test=loader(columns(label=label))))
    by_class = result["kd"][0]["per_class"]["recall by class"]
    assert by_class[2] is None and all(0 <= x <= 1 for x in by_class[:2])
    assert (tmp_path / "figures" / "by_class.png").exists()


def test_no_batches_are_named():
    """An evaluation, or a teacher's pass, without batches → refused by name."""
    with pytest.raises(UserError, match="test has no batches"):
        evaluate(classification(2), lambda variables, batch: ({}, {}, {}), None, [], "test")
    net = plain(lambda params, batch: {"logits": batch["x"]})
    with pytest.raises(UserError, match="no batches to run the teacher on"):
        teacher_outputs.compute(net, {"params": {}}, [], ("logits",), jax.random.key(0))


def test_no_members():
    """A population without members → refused."""
    with pytest.raises(UserError, match="no members"):
        population.members(lambda shared, seed: seed)(0, np.zeros(0, np.float32))
    assert jnp.all(population.members(lambda shared, seed: seed)(0, np.ones(1, np.float32)) == 1)
    assert dataclasses.is_dataclass(Config)
