"""OFD: margins in closed form and as running means, on any number of devices; a connector with BatchNorm."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.core.hyperparams import hyperparams_of
from mmkd_jax.core.objective import total
from mmkd_jax.methods import ofd
from mmkd_jax.methods.features.ofd import negative_mean
from tests.methods.trained import TEACHER, everything_learns, first_outputs
from tests.small import compiled, make_batch

pytestmark = pytest.mark.usefixtures("strict")
PATHS: dict[str, Any] = {side: f"{side}.preactivation.image.0" for side in ("student", "teacher")}


def margins(state):
    return np.asarray(state["margin"]["sum"] / state["margin"]["share"])


def by_hand(outputs, where):
    t = np.asarray(outputs[PATHS["teacher"]])[where].reshape(-1, TEACHER)
    return np.array([t[:, c][t[:, c] < 0].mean() for c in range(TEACHER)])


@pytest.mark.slow
def test_everything_learns():
    state, last, _ = everything_learns(ofd(**PATHS, weight=1e-2), PATHS)
    objective_state = last.objective_state["own"]
    assert np.all(margins(objective_state) < -1e-3)
    before = jax.tree.leaves(state.objective_state["own"]["state"])
    for x, y in zip(before, jax.tree.leaves(objective_state["state"]), strict=True):  # the connector's statistics
        assert not np.array_equal(x, y)


def test_the_running_margin_is_the_mean_of_what_is_negative():
    method = ofd(**PATHS, where="present.audio", momentum=0.75)
    one, two = first_outputs(0), first_outputs(1, make_batch(1))
    params, state = compiled(method).init(one)
    assert hyperparams_of(state) == {"weight": 1.0, "momentum": 0.75}
    here = [np.asarray(v.batch["present.audio"] & v.batch["valid"]) for v in (one, two)]
    term, state = compiled(method).apply(params, state, one)
    np.testing.assert_allclose(margins(state), by_hand(one, here[0]), rtol=1e-5)  # without a bias to the start
    assert np.isfinite(np.asarray(term.values)).all()
    _, after = compiled(method).apply(params, state, two)
    assert np.abs(margins(after) - margins(state)).min() > 1e-4
    share = np.asarray(after["margin"]["share"])
    shares = [
        (np.asarray(v[PATHS["teacher"]])[h].reshape(-1, TEACHER) < 0).mean(0)
        for v, h in zip((one, two), here, strict=True)
    ]
    np.testing.assert_allclose(share, 0.75 * 0.25 * shares[0] + 0.25 * shares[1], rtol=1e-5)
    # evaluated, nothing moves
    still = compiled(method).apply(params, state, first_outputs(1, make_batch(1), train=False))[1]
    assert all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (still, state)), strict=True))


def test_without_a_valid_row_the_margins_stay_finite():
    batch = make_batch() | {"valid": np.zeros(16, bool)}
    method, outputs = ofd(**PATHS), first_outputs(batch=batch)
    term, state = compiled(method).apply(*compiled(method).init(outputs), outputs)
    assert not np.any(state["margin"]["share"]) and np.isfinite(np.asarray(term.values)).all()


def test_margins_in_closed_form():
    """As the mean of many draws says; of a channel that is hardly ever negative, three deviations."""
    bias, scale = np.array([0.5, -1.0, 9.0, -2.0], np.float32), np.array([1.0, -2.0, 2.0, 0.0], np.float32)
    draws = np.random.default_rng(0).normal(bias, np.abs(scale), (1_000_000, 4))
    expected = [draws[:, c][draws[:, c] < 0].mean() if c != 2 else -6.0 for c in range(4)]
    np.testing.assert_allclose(negative_mean(bias, scale), expected, rtol=3e-3)

    outputs = first_outputs()
    ones = np.ones(TEACHER, np.float32)
    given = ofd(**PATHS, batch_norm=(0 * ones, ones))
    params, state = compiled(given).init(outputs)
    assert hyperparams_of(state) == {"weight": 1.0}
    _, after = compiled(given).apply(params, state, outputs)
    np.testing.assert_allclose(after["margin"]["mean"], -np.sqrt(2 / np.pi) * ones, rtol=1e-6)

    # further below 0 asks more of the student
    def value(scale):
        method = ofd(**PATHS, batch_norm=(0 * ones, scale * ones))
        return float(total(compiled(method).apply(params, compiled(method).init(outputs)[1], outputs)[0])[0])

    assert abs(value(0.01) - value(3.0)) > 1e-2


def test_two_devices_are_one():
    """Margins and BatchNorm see all devices' rows; so do values and gradients."""
    method, outputs = ofd(**PATHS), first_outputs()
    params, state = compiled(method).init(outputs)

    def loss(params, batch, model_outputs, axis_name):
        here = dataclasses.replace(
            outputs, batch=batch, by_model=model_outputs, ctx=outputs.ctx._replace(axis_name=axis_name)
        )
        term, after = compiled(method).apply(params, state, here)
        return total(term, axis_name)[0], after

    def each(batch, model_outputs):
        found = jax.grad(loss, has_aux=True)(params, batch, model_outputs, "data")
        return jax.lax.psum(found[0], "data"), found[1]

    halves = jax.tree.map(lambda x: x.reshape(2, 8, *x.shape[1:]), (dict(outputs.batch), outputs.by_model))
    spread = jax.jit(jax.vmap(each, axis_name="data"))(*halves)
    alone = jax.jit(jax.grad(loss, has_aux=True), static_argnums=3)(params, outputs.batch, outputs.by_model, None)
    for x, y in zip(*map(jax.tree.leaves, (spread, alone)), strict=True):
        np.testing.assert_allclose(x, jnp.broadcast_to(y, x.shape), rtol=1e-4, atol=1e-5)
