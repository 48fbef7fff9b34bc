"""PAD: a head that says where the student is unsure, trained beside it."""

import dataclasses

import jax
import numpy as np
import pytest

from mmkd_jax import losses
from mmkd_jax.core.hyperparams import hyperparams_of
from mmkd_jax.methods import pad
from tests.methods.trained import MAPS, STUDENT, TEACHER, everything_learns, first_outputs
from tests.small import compiled, equal

pytestmark = pytest.mark.usefixtures("strict")


@pytest.mark.slow
def test_everything_learns():
    state, last, _ = everything_learns(pad(**MAPS))
    before = jax.tree.leaves(state.objective_state["own"]["state"])
    for x, y in zip(
        before, jax.tree.leaves(last.objective_state["own"]["state"]), strict=True
    ):  # the head's statistics
        assert not np.array_equal(x, y)


@pytest.mark.full
def test_values():
    outputs = first_outputs()
    method = pad(**MAPS, eps=1e-3, weight=0.5)
    params, state = compiled(method).init(outputs)
    assert hyperparams_of(state).keys() == {"eps", "weight"}
    kernel = np.asarray(params["log_variance"]["Dense_0"]["kernel"], np.float64)
    assert kernel.shape == (STUDENT, TEACHER)
    s, t = (np.asarray(outputs[p], np.float64) for p in MAPS.values())
    raw = s @ kernel
    flat = raw[np.asarray(outputs["batch.valid"])].reshape(-1, TEACHER)  # padding is no part of the statistics
    v = (raw - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5)
    adapted = s @ np.asarray(params["student"]["kernel"], np.float64) + np.asarray(params["student"]["bias"])
    values = np.mean((t - adapted) ** 2 / (1e-3 + np.exp(v)) + v, -1)
    term, _ = compiled(method).apply(params, state, outputs)
    np.testing.assert_allclose(term.values, values, rtol=1e-3, atol=1e-3)  # one a place


def test_of_equal_widths_only_the_head_is_added():
    outputs = first_outputs()
    same = dataclasses.replace(outputs, by_model={**outputs.by_model, "student": outputs.by_model["teacher"]})
    method = pad(**MAPS)
    params, state = compiled(method).init(same)
    assert params.keys() == {"log_variance"}
    still = dataclasses.replace(same, ctx=same.ctx._replace(train=False))
    term, after = compiled(method).apply(params, state, still)
    assert equal(after, state)
    x = still[MAPS["teacher"]]
    v = x @ params["log_variance"]["Dense_0"]["kernel"] / np.float32(np.sqrt(1 + 1e-5))
    np.testing.assert_allclose(term.values, losses.pad_l2(x, x, v), rtol=1e-4, atol=1e-5)
