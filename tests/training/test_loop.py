"""The loop: early stopping, the best step's variables, refusal of what is not finite."""

import contextlib
import dataclasses
import shutil

import jax
import numpy as np
import optax
import pytest

from mmkd_jax import data
from mmkd_jax.errors import UserError
from mmkd_jax.training import compiled, loop
from mmkd_jax.training.checkpoint import Checkpoints
from mmkd_jax.training.scores import evaluate
from tests import tiny_experiment

TRAINING = tiny_experiment.trainings(tiny_experiment.Config(steps=100))["teacher"]


def fit(training, folder, program=None, **options):
    with contextlib.closing(
        Checkpoints(folder, training.keep_last, training.keep_best, training.keep_every)
    ) as checkpoints:
        program = program or compiled.compile_training(training)
        return program, loop.fit(training, program, 0, checkpoints, log=lambda line: None, **options)


def after(looks):
    """Options of `fit` that ask for a stop once so many lines of the learning curve are there."""
    seen = []
    return {"on_metrics": lambda step, row, speed: seen.append(step), "should_stop": lambda: len(seen) >= looks}


def test_patience_ends_training_and_the_best_step_is_kept(tmp_path):
    training = dataclasses.replace(TRAINING, patience=3)
    program, fitted = fit(training, tmp_path / "c")
    looks = [h["accuracy"] for h in fitted.history]
    best = int(np.argmax(looks))
    assert fitted.best == looks[best] and fitted.best_step == 5 * (best + 1)
    assert fitted.history[-1]["step"] == fitted.best_step + 3 * 5 < training.steps
    again = evaluate(program.task, program.measure, fitted.variables["teacher"], training.validation.eval_batches())
    assert float(again["accuracy"]) == pytest.approx(fitted.best)


def test_what_is_not_finite_stops_the_run_by_name(tmp_path):
    training = dataclasses.replace(TRAINING, optimizer=optax.sgd(1e30))
    with pytest.raises(UserError, match=r"loss.* is not finite at step .*learning rate"):
        fit(training, tmp_path / "c")


@pytest.mark.full
def test_other_data_are_refused(tmp_path):
    with pytest.raises(loop.Interrupted):
        fit(TRAINING, tmp_path / "c", **after(2))
    other = TRAINING.data.with_columns(extra=np.zeros(48, np.float32))
    with pytest.raises(UserError, match=r"data.columns: None there, .*--allow-changed-data"):
        fit(TRAINING, tmp_path / "c", data=other)
    assert isinstance(TRAINING.data, data.InMemory)
    larger = dataclasses.replace(TRAINING, data=dataclasses.replace(TRAINING.data, batch_size=24))
    with pytest.raises(UserError, match="batch_size: 16 there, 24 now"):
        fit(larger, tmp_path / "c")
    said = []
    with contextlib.closing(Checkpoints(tmp_path / "c")) as checkpoints:
        program = compiled.compile_training(larger)
        fitted = loop.fit(larger, program, 0, checkpoints, log=said.append, allowed=frozenset(["code", "data"]))
        with pytest.raises(UserError, match="trained with seed 0, not 1"):
            loop.fit(larger, program, 1, checkpoints, allowed=frozenset(["code", "data"]))
    assert "continuing after a change: data.batch_size: 16 there, 24 now" in said and fitted.history[-1]["step"] == 100


@pytest.mark.full
def test_interrupted_and_resumed_is_bit_equal(tmp_path):
    with pytest.raises(loop.Interrupted, match=r"step \d+"):
        fit(TRAINING, tmp_path / "c", **after(3))
    _, resumed = fit(TRAINING, tmp_path / "c")
    _, whole = fit(TRAINING, tmp_path / "d")
    assert resumed.history == whole.history
    jax.tree.map(np.testing.assert_array_equal, resumed.variables, whole.variables)


@pytest.mark.slow
@pytest.mark.parametrize("reader", [data.InMemory, data.GrainLoader])
def test_asked_to_stop_at_any_moment(tmp_path, reader):
    """Within a look, in the middle of its evaluation, at the last evaluation: the curve has the same bits."""
    training = dataclasses.replace(TRAINING, data=reader(TRAINING.data.dataset, 16), steps=8, save_every=4)
    program, whole = fit(training, tmp_path / "whole")
    assert [h["step"] for h in whole.history] == [5, 8]
    moments = 0
    for moment in range(1, 100):
        asked = []
        try:
            ask = lambda asked=asked, n=moment: asked.append(1) or len(asked) == n  # noqa: E731
            fit(training, tmp_path / "c", program, should_stop=ask)
        except loop.Interrupted:
            moments += 1
            _, resumed = fit(training, tmp_path / "c", program)
            assert resumed.history == whole.history
            jax.tree.map(np.testing.assert_array_equal, resumed.variables, whole.variables)
            jax.tree.map(np.testing.assert_array_equal, resumed.scores, whole.scores)
            shutil.rmtree(tmp_path / "c")
        else:
            break
    assert moments > 10


def test_which_checkpoints_are_kept(tmp_path):
    training = dataclasses.replace(TRAINING, steps=100, save_every=5, keep_last=1, keep_best=1, keep_every=30)
    _, fitted = fit(training, tmp_path / "c")
    saved = [h for h in fitted.history if h["step"] < 100]
    best = max(saved, key=lambda h: (h["accuracy"], h["step"]))["step"]  # the later of equals
    found = sorted(int(p.name) for p in (tmp_path / "c").iterdir() if p.name.isdigit())
    assert set(found) >= {30, 60, 90, 95} and len(found) <= 5
    assert best in found
    with pytest.raises(UserError, match="keep_every=7 is not a multiple of save_every=5"):
        dataclasses.replace(training, keep_every=7)
    with pytest.raises(UserError, match="save_every=0: expected at least 1"):
        dataclasses.replace(training, save_every=0)


def test_a_part_may_keep_its_last_step(tmp_path):
    training = dataclasses.replace(TRAINING, steps=20, select="last")
    program, fitted = fit(training, tmp_path / "c")
    assert fitted.best_step == 20 and fitted.best == fitted.history[-1]["accuracy"]
    state, frozen = program.start(jax.random.key(0), {}, {})
    assert isinstance(training.data, data.InMemory)
    state, _ = program.advance(state, program.zero_metrics(state, frozen), frozen, training.data.arrays(), 20)
    jax.tree.map(np.testing.assert_array_equal, fitted.variables["teacher"]["params"], state.params["teacher"])
    with pytest.raises(UserError, match="'best' or 'last'"):
        dataclasses.replace(TRAINING, select="first")
    with pytest.raises(UserError, match="patience"):
        dataclasses.replace(TRAINING, select="last", patience=3)
