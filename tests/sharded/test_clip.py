"""Queues, CLIP-KD and a bank: eight devices give what one gives, and what is spread is saved and comes back."""

import contextlib

import flax.linen as nn
import jax
import numpy as np
import pytest

from mmkd_jax import methods
from mmkd_jax.core.objective import combine
from mmkd_jax.core.sharding import compile_step, shardings
from mmkd_jax.core.step import make_step
from mmkd_jax.training.checkpoint import Checkpoints
from tests.methods.towers import MODELS, PATHS, captions
from tests.small import advance, distil, equal, gap, initialize

ROWS, STEPS = 32, 4
TERMS = {
    "two": methods.compress(40, temperature=0.3, where="present.text"),
    "one": methods.seed(40, connect=nn.Dense(6)),
    "kd": methods.clip_kd(patch=2, teacher_temperature=0.07, where="present.text"),
    "fused": methods.clip_afd(**PATHS),
    "contrast": methods.crd(64, width=4, negatives=8, weight=0.1),
}


def days():
    return [captions(i, ROWS) for i in range(STEPS)]


@pytest.fixture(scope="module")
def reference():
    distillation = distil(MODELS, combine(**TERMS), rate=1e-4)
    state, frozen = initialize(distillation, days()[0])
    step = compile_step(make_step(distillation), donate=False)
    return distillation, state, frozen, advance(step, state, frozen, days())


@pytest.mark.parametrize("form", ["jit", "shard_map"])
def test_steps_agree_with_one_device(form, mesh, reference, tmp_path):
    distillation, state, frozen, (last, values, terms) = reference
    step = compile_step(make_step(distillation), form, mesh, donate=False)
    here, spread, each = advance(step, state, frozen, days())
    np.testing.assert_allclose(spread, values, rtol=1e-5)
    for name in terms:
        np.testing.assert_allclose(each[name], terms[name], rtol=2e-5, atol=1e-7, err_msg=name)
    assert gap(here.params, last.params) < 1e-5
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), here.objective_state, last.objective_state
    )
    for name in ("two", "one"):
        for queue, before in zip(
            last.objective_state[name]["queue"].values(), state.objective_state[name]["queue"].values(), strict=True
        ):
            assert gap(queue["rows"], before["rows"]) > 0.1
            assert int(queue["next"]) > 0
        assert all(x.sharding.is_fully_replicated for x in jax.tree.leaves(here.objective_state[name]["queue"]))
    if form == "jit":
        comes_back(here, mesh, tmp_path)


def comes_back(state, mesh, folder):
    """Saved from the mesh and restored onto it: bit for bit, and spread as before."""
    places = shardings(state, mesh)
    like = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, places)
    with contextlib.closing(Checkpoints(folder)) as checkpoints:
        checkpoints.save(STEPS, state, {})
        checkpoints.wait()
        found = checkpoints.restore(like)
    assert found is not None
    _, restored, _, damaged = found
    assert not damaged and equal(restored.objective_state, state.objective_state)
    objective_state = restored.objective_state["contrast"]
    assert all(float(z) > 0 for z in objective_state["z"].values())
    for bank in objective_state["bank"].values():
        assert {s.data.shape for s in bank.addressable_shards} == {(8, 4)}
