"""Every loss and every method trains a student for ten steps beside a real teacher, and resumes exactly."""

import contextlib

import jax
import numpy as np
import pytest

from mmkd_jax.cli import catalogue
from mmkd_jax.core.objective import combine
from mmkd_jax.training.checkpoint import Checkpoints
from tests.mechanisms.stages import STAGES
from tests.small import advance, distil, equal, initialize, stepper

# the other stages take seven minutes to compile: pytest -m slow
QUICK = {"pictures, regression", "pictures, contrastive", "clip, methods", "clip, family"}
EACH = [pytest.param(s, id=n, marks=() if n in QUICK else pytest.mark.slow) for n, s in STAGES.items()]
ELSEWHERE = {"attention"}  # by value and gradient on a pair of Transformers: test_attention.py


def test_the_stages_hold_every_loss_and_method():
    there = {name.partition(",")[0] for stage in STAGES.values() for name in stage.parts}
    other = ("recipes.", "gradients.", "adversarial.")
    entries = {e.name: e.topic for e in catalogue.entries() if not e.name.startswith(other)}
    assert there <= set(entries)
    assert {n for n, topic in entries.items() if topic not in ELSEWHERE} <= there


@pytest.mark.full
@pytest.mark.parametrize("stage", EACH)
def test_ten_steps_and_a_resumption_in_their_middle(stage, tmp_path):
    days = list(stage.batches(10))
    distillation = distil(stage.models, combine(**stage.parts), rate=stage.rate, trained=stage.trained, ema=stage.ema)
    state, frozen = initialize(distillation, days[0])
    step = stepper(distillation)
    half, *_ = advance(step, state, frozen, days[:5])
    last, values, terms = advance(step, half, frozen, days[5:])
    assert np.isfinite(values).all()
    for name, value in terms.items():
        assert np.isfinite(value).all(), name
        assert (value != 0).any() or name in stage.sometimes_zero, name
    for name in stage.trained:
        assert not equal(state.params[name], last.params[name]), name

    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(5, half, {})
        checkpoints.wait()
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), half)
        found = checkpoints.restore(like)
    assert found is not None
    _, restored, _, damaged = found
    assert not damaged
    again, repeated, _ = advance(step, restored, frozen, days[5:])
    np.testing.assert_array_equal(repeated, values)
    assert equal(again.replace(key=0), last.replace(key=0))  # typed keys do not compare; steps drew from them
