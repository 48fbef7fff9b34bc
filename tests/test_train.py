"""The loop: early stopping, the best step's variables, refusal of what is not finite."""

import contextlib
import dataclasses

import jax
import numpy as np
import optax
import pytest

from mmkd_jax import train
from mmkd_jax.checkpoint import Checkpoints
from mmkd_jax.errors import UserError
from tests import tiny_experiment

PART = tiny_experiment.parts(tiny_experiment.Config(steps=100))["teacher"]


def fit(part, folder, **options):
    with contextlib.closing(Checkpoints(folder)) as checkpoints:
        program = train.compile_part(part)
        return program, train.fit(part, program, 0, checkpoints, say=lambda line: None, **options)


def test_patience_ends_training_and_the_best_step_is_kept(tmp_path):
    part = dataclasses.replace(PART, patience=3)
    program, fitted = fit(part, tmp_path / "c")
    looks = [h["accuracy"] for h in fitted.history]
    best = int(np.argmax(looks))
    assert fitted.best == looks[best] and fitted.best_step == 5 * (best + 1)
    assert fitted.history[-1]["step"] == fitted.best_step + 3 * 5 < part.steps
    again = train.evaluate(program, fitted.variables["teacher"], part.validation.once())
    assert float(again["accuracy"]) == pytest.approx(fitted.best)


def test_what_is_not_finite_stops_the_run_by_name(tmp_path):
    part = dataclasses.replace(PART, optimizer=optax.sgd(1e30))
    with pytest.raises(UserError, match=r"loss.* is not finite at step .*learning rate"):
        fit(part, tmp_path / "c")


def test_other_data_are_refused(tmp_path):
    asked = []
    with pytest.raises(train.Interrupted):
        fit(PART, tmp_path / "c", stop=lambda: asked.append(1) or len(asked) == 2)
    other = PART.data.with_columns(extra=np.zeros(48, np.float32))
    with pytest.raises(UserError, match="columns changed"):
        fit(PART, tmp_path / "c", data=other)


def test_interrupted_and_resumed_is_bit_equal(tmp_path):
    asked = []
    with pytest.raises(train.Interrupted, match="step 15"):
        fit(PART, tmp_path / "c", stop=lambda: asked.append(1) or len(asked) == 3)
    _, resumed = fit(PART, tmp_path / "c")
    _, whole = fit(PART, tmp_path / "d")
    assert resumed.history == whole.history
    jax.tree.map(np.testing.assert_array_equal, resumed.variables, whole.variables)


def test_a_part_may_keep_its_last_step(tmp_path):
    part = dataclasses.replace(PART, steps=20, keep="last")
    program, fitted = fit(part, tmp_path / "c")
    assert fitted.best_step == 20 and fitted.best == fitted.history[-1]["accuracy"]
    last = program.start(jax.random.key(0), {}, {})
    state, _ = program.advance(*last, part.data.arrays(), jax.random.key(0), 20)
    jax.tree.map(np.testing.assert_array_equal, fitted.variables["teacher"]["params"], state.params["teacher"])
    with pytest.raises(UserError, match="'best' or 'last'"):
        dataclasses.replace(PART, keep="first")
    with pytest.raises(UserError, match="patience"):
        dataclasses.replace(PART, keep="last", patience=3)
