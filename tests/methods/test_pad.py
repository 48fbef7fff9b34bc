"""PAD: a head that says where the student is unsure, trained beside it."""

import dataclasses

import jax
import numpy as np
import pytest

from mmkd_jax import losses
from mmkd_jax.hyperparameters import numbers
from mmkd_jax.methods import pad
from tests.methods.trained import MAPS, STUDENT, TEACHER, everything_learns, look
from tests.small import equal

pytestmark = pytest.mark.usefixtures("strict")


def test_everything_learns():
    state, last, _ = everything_learns(pad(**MAPS))
    before = jax.tree.leaves(state.memory["own"]["state"])
    for x, y in zip(before, jax.tree.leaves(last.memory["own"]["state"]), strict=True):  # the head's statistics
        assert not np.array_equal(x, y)


def test_values():
    views = look()
    method = pad(**MAPS, eps=1e-3, weight=0.5)
    params, memory = method.init(views)
    assert numbers(memory).keys() == {"eps", "weight"}
    kernel = np.asarray(params["log_variance"]["Dense_0"]["kernel"], np.float64)
    assert kernel.shape == (STUDENT, TEACHER)
    s, t = (np.asarray(views[p], np.float64) for p in MAPS.values())
    raw = s @ kernel
    flat = raw[np.asarray(views["batch.valid"])].reshape(-1, TEACHER)  # padding is no part of the statistics
    v = (raw - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5)
    adapted = s @ np.asarray(params["student"]["kernel"], np.float64) + np.asarray(params["student"]["bias"])
    values = np.mean((t - adapted) ** 2 / (1e-3 + np.exp(v)) + v, -1)
    term, _ = method.apply(params, memory, views)
    np.testing.assert_allclose(term.values, values, rtol=1e-3, atol=1e-3)  # one a place


def test_of_equal_widths_only_the_head_is_added():
    views = look()
    same = dataclasses.replace(views, outputs=views.outputs | {"student": views.outputs["teacher"]})
    method = pad(**MAPS)
    params, memory = method.init(same)
    assert params.keys() == {"log_variance"}
    still = dataclasses.replace(same, ctx=same.ctx._replace(train=False))
    term, after = method.apply(params, memory, still)
    assert equal(after, memory)
    x = still[MAPS["teacher"]]
    v = x @ params["log_variance"]["Dense_0"]["kernel"] / np.float32(np.sqrt(1 + 1e-5))
    np.testing.assert_allclose(term.values, losses.pad_l2(x, x, v), rtol=1e-4, atol=1e-5)
