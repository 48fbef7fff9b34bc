"""OFD: margins in closed form and as running means, on any number of devices; a connector with BatchNorm."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.hyperparameters import numbers
from mmkd_jax.methods import ofd
from mmkd_jax.methods.ofd import negative_mean
from mmkd_jax.objective import total
from tests.methods.trained import TEACHER, everything_learns, look
from tests.small import make_batch

pytestmark = pytest.mark.usefixtures("strict")
PATHS = {side: f"{side}.preactivation.image.0" for side in ("student", "teacher")}


def margins(memory):
    return np.asarray(memory["margin"]["sum"] / memory["margin"]["share"])


def by_hand(views, where):
    t = np.asarray(views[PATHS["teacher"]])[where].reshape(-1, TEACHER)
    return np.array([t[:, c][t[:, c] < 0].mean() for c in range(TEACHER)])


def test_everything_learns():
    state, last, _ = everything_learns(ofd(**PATHS, weight=1e-2), PATHS)
    memory = last.memory["own"]
    assert np.all(margins(memory) < -1e-3)
    before = jax.tree.leaves(state.memory["own"]["state"])
    for x, y in zip(before, jax.tree.leaves(memory["state"]), strict=True):  # the connector's statistics
        assert not np.array_equal(x, y)


def test_the_running_margin_is_the_mean_of_what_is_negative():
    method = ofd(**PATHS, where="present.audio", momentum=0.75)
    one, two = look(0), look(1, make_batch(1))
    params, memory = method.init(one)
    assert numbers(memory) == {"weight": 1.0, "momentum": 0.75}
    here = [np.asarray(v.batch["present.audio"] & v.batch["valid"]) for v in (one, two)]
    term, memory = method.apply(params, memory, one)
    np.testing.assert_allclose(margins(memory), by_hand(one, here[0]), rtol=1e-5)  # without a bias to the start
    assert np.isfinite(np.asarray(term.values)).all()
    _, after = method.apply(params, memory, two)
    assert np.abs(margins(after) - margins(memory)).min() > 1e-4
    share = np.asarray(after["margin"]["share"])
    shares = [
        (np.asarray(v[PATHS["teacher"]])[h].reshape(-1, TEACHER) < 0).mean(0)
        for v, h in zip((one, two), here, strict=True)
    ]
    np.testing.assert_allclose(share, 0.75 * 0.25 * shares[0] + 0.25 * shares[1], rtol=1e-5)
    # evaluated, nothing moves
    still = method.apply(params, memory, look(1, make_batch(1), train=False))[1]
    assert all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (still, memory)), strict=True))


def test_without_a_valid_row_the_margins_stay_finite():
    batch = make_batch() | {"valid": np.zeros(16, bool)}
    method, views = ofd(**PATHS), look(batch=batch)
    term, memory = method.apply(*method.init(views), views)
    assert not np.any(memory["margin"]["share"]) and np.isfinite(np.asarray(term.values)).all()


def test_margins_in_closed_form():
    """As the mean of many draws says; of a channel that is hardly ever negative, three deviations."""
    bias, scale = np.array([0.5, -1.0, 9.0, -2.0], np.float32), np.array([1.0, -2.0, 2.0, 0.0], np.float32)
    draws = np.random.default_rng(0).normal(bias, np.abs(scale), (1_000_000, 4))
    expected = [draws[:, c][draws[:, c] < 0].mean() if c != 2 else -6.0 for c in range(4)]
    np.testing.assert_allclose(negative_mean(bias, scale), expected, rtol=3e-3)

    views = look()
    ones = np.ones(TEACHER, np.float32)
    given = ofd(**PATHS, batch_norm=(0 * ones, ones))
    params, memory = given.init(views)
    assert numbers(memory) == {"weight": 1.0}
    _, after = given.apply(params, memory, views)
    np.testing.assert_allclose(after["margin"]["mean"], -np.sqrt(2 / np.pi) * ones, rtol=1e-6)

    # further below 0 asks more of the student
    def value(scale):
        method = ofd(**PATHS, batch_norm=(0 * ones, scale * ones))
        return float(total(method.apply(params, method.init(views)[1], views)[0])[0])

    assert abs(value(0.01) - value(3.0)) > 1e-2


def test_two_devices_are_one():
    """Margins and BatchNorm see all devices' rows; so do values and gradients."""
    method, views = ofd(**PATHS), look()
    params, memory = method.init(views)

    def loss(params, batch, outputs, axis):
        here = dataclasses.replace(views, batch=batch, outputs=outputs, ctx=views.ctx._replace(axis=axis))
        term, after = method.apply(params, memory, here)
        return total(term, axis)[0], after

    def each(batch, outputs):
        found = jax.grad(loss, has_aux=True)(params, batch, outputs, "data")
        return jax.lax.psum(found[0], "data"), found[1]

    halves = jax.tree.map(lambda x: x.reshape(2, 8, *x.shape[1:]), (dict(views.batch), views.outputs))
    spread = jax.jit(jax.vmap(each, axis_name="data"))(*halves)
    alone = jax.jit(jax.grad(loss, has_aux=True), static_argnums=3)(params, views.batch, views.outputs, None)
    for x, y in zip(*map(jax.tree.leaves, (spread, alone)), strict=True):
        np.testing.assert_allclose(x, jnp.broadcast_to(y, x.shape), rtol=1e-4, atol=1e-5)
