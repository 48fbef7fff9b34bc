"""Gradient schemes: each against its paper's formulas in NumPy, by its mechanism."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import minimize

from mmkd_jax import gradients as aggregators
from mmkd_jax.errors import UserError
from mmkd_jax.gradients._cagrad import weights
from mmkd_jax.gradients._pcgrad import orders

RNG = np.random.default_rng(0)
NAMES = ["a", "b", "c"]
PLAIN: dict[str, Any] = dict(learning_rate=0.1, transform=optax.identity())


def params(width=5):
    return {"student": {"shared": jnp.zeros(width), "head": jnp.zeros(2)}, "objective": {"a": jnp.zeros(3)}}


def gradients(rows, own=None):
    """The tree of gradients whose part that terms share is `rows` [n, 7]; only the first term has parameters."""
    rows = jnp.asarray(rows, jnp.float32)
    own = jnp.zeros((len(rows), 3)).at[0].set(1.0) if own is None else own
    return {"student": {"shared": rows[:, :5], "head": rows[:, 5:]}, "objective": {"a": own}}


def apply(aggregator, rows, values=(1.0, 2.0, 3.0), state=None, seed=0):
    names = NAMES[: len(rows)]
    state = aggregator.init(names, params()) if state is None else state
    named = {n: jnp.float32(v) for n, v in zip(names, values, strict=False)}
    out, state = jax.jit(aggregator.apply)(gradients(rows), named, state, jax.random.key(seed))
    return np.concatenate([out["student"]["shared"], out["student"]["head"]]), np.asarray(out["objective"]["a"]), state


def vectors(n=3, draw=RNG):
    return draw.normal(size=(n, 7))


def test_uncertainty_is_the_paper_s_formula_over_steps():
    aggregator = aggregators.uncertainty(regression=("b",), **PLAIN)
    factor, s, state = np.array([1, 0.5, 1]), np.zeros(3), None
    for _ in range(4):
        rows, values = vectors(), RNG.random(3) * 3
        out, own, state = apply(aggregator, rows, values, state)
        np.testing.assert_allclose(out, (factor * np.exp(-s)) @ rows, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(own, np.exp(-s[0]) * np.ones(3), rtol=1e-5)  # a weight of the loss: of all of it
        s = s - 0.1 * (0.5 - factor * np.exp(-s) * values)
        np.testing.assert_allclose([state["log_variance"][n] for n in NAMES], s, rtol=1e-4, atol=1e-6)


def test_uncertainty_rests_where_each_term_weighs_a_half():
    aggregator, state = aggregators.uncertainty(learning_rate=0.5, transform=optax.identity()), None
    values, rows = (0.2, 2.0, 5.0), vectors()
    step = jax.jit(aggregator.apply)
    state = aggregator.init(NAMES, params())
    for _ in range(200):
        _, state = step(gradients(rows), dict(zip(NAMES, map(jnp.float32, values), strict=True)), state, None)
    s = np.array([state["log_variance"][n] for n in NAMES])
    np.testing.assert_allclose(np.exp(-s) * values, 0.5, rtol=1e-4)


@pytest.mark.parametrize("over", ["", "student.shared"])
def test_gradnorm_is_the_paper_s_formula_over_steps(over):
    aggregator = aggregators.gradnorm(alpha=1.5, over=over, **(PLAIN | {"learning_rate": 0.02}))
    w, state, first = np.ones(3), None, None
    for _ in range(4):
        rows, values = vectors(), RNG.random(3) + 0.5
        out, own, state = apply(aggregator, rows, values, state)
        np.testing.assert_allclose(out, w @ rows, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(own, w[0] * np.ones(3), rtol=1e-5)
        first = values if first is None else first
        size = np.linalg.norm(rows[:, :5] if over else rows, axis=1)
        rate = values / first / np.mean(values / first)
        target = np.mean(w * size) * rate**1.5
        w = w - 0.02 * np.sign(w * size - target) * size
        w = 3 * w / w.sum()
        np.testing.assert_allclose([state["weight"][n] for n in NAMES], w, rtol=1e-4)
    assert np.abs(w - 1).max() > 0.02


def test_gradnorm_leans_to_the_slower_term():
    aggregator, rows = aggregators.gradnorm(alpha=1.0), np.eye(7)[:2]
    state = apply(aggregator, rows, (1.0, 1.0))[2]
    assert state["weight"]["a"] == pytest.approx(state["weight"]["b"])
    for _ in range(20):
        state = apply(aggregator, rows, (0.9, 0.3), state)[2]  # b has fallen further
    assert state["weight"]["a"] > 1.2 and sum(state["weight"].values()) == pytest.approx(2)


def projected(rows, order):
    out = rows.copy()
    for i in range(len(rows)):
        for j in order[i]:
            if j != i and out[i] @ rows[j] < 0:
                out[i] -= out[i] @ rows[j] / (rows[j] @ rows[j]) * rows[j]
    return out.sum(0)


@pytest.mark.full
@pytest.mark.parametrize("n", [2, 3])
def test_pcgrad_is_the_paper_s_algorithm(n):
    conflicts, draw = 0, np.random.default_rng(0)
    for seed in range(10):
        rows = vectors(n, draw)
        out, own, _ = apply(aggregators.pcgrad(), rows, seed=seed)
        expected = projected(rows, np.asarray(orders(jax.random.key(seed), n)))
        np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(own, np.ones(3))  # the terms' own parameters are left alone
        conflicts += not np.allclose(expected, rows.sum(0))
    assert conflicts > 3


def test_pcgrad_of_one_layer_leaves_the_other_alone():
    rows = vectors()
    rows[1, :5] = -rows[0, :5]
    out, _, _ = apply(aggregators.pcgrad(over="student.shared"), rows)
    np.testing.assert_allclose(out[5:], rows[:, 5:].sum(0), rtol=1e-5)
    inner = projected(rows[:, :5], np.asarray(orders(jax.random.key(0), 3)))
    np.testing.assert_allclose(out[:5], inner, rtol=1e-4, atol=1e-5)


def test_pcgrad_adds_what_is_orthogonal_cancels_what_is_opposite_and_draws_its_order():
    np.testing.assert_allclose(apply(aggregators.pcgrad(), np.eye(7)[:3])[0], np.eye(7)[:3].sum(0))
    g = vectors(1)[0]
    np.testing.assert_allclose(apply(aggregators.pcgrad(), np.stack([g, -2 * g]))[0], 0, atol=1e-6)
    np.testing.assert_allclose(apply(aggregators.pcgrad(), np.stack([g, 0 * g]))[0], g, rtol=1e-6)
    rows = np.array([[1, 0], [-1, 0.5], [-1, -0.5]]) @ np.eye(7)[:2]
    outs = {tuple(np.round(apply(aggregators.pcgrad(), rows, seed=s)[0], 4)) for s in range(8)}
    assert len(outs) > 1


def averse(rows, c):
    """By scipy, from several starts; the value at the optimum, and the direction."""
    mean, products = rows.mean(0), rows @ rows.T
    radius, n = c * np.linalg.norm(mean), len(rows)

    def value(w):
        return w @ products.mean(1) + radius * np.sqrt(max(w @ products @ w, 0) + 1e-14)

    simplex = {"bounds": [(0, 1)] * n, "constraints": {"type": "eq", "fun": lambda w: w.sum() - 1}}
    starts = [np.full(n, 1 / n), *(0.9 * np.eye(n) + 0.1 / n)]
    found = [minimize(value, x, options={"ftol": 1e-13, "maxiter": 500}, **simplex).x for x in starts]
    w = min((np.clip(x, 0, 1) / np.clip(x, 0, 1).sum() for x in found), key=value)
    return value, w, mean + radius * (w @ rows) / np.linalg.norm(w @ rows)


@pytest.mark.full
def test_cagrad_is_the_optimum_that_scipy_finds():
    for trial in range(20):
        rows, c = vectors(2 + trial % 2) * [[1], [3], [0.5]][: 2 + trial % 2], 0.1 + 0.04 * trial
        _value, _w, expected = averse(rows, c)
        out, own, _ = apply(aggregators.cagrad(c=c), rows)
        np.testing.assert_allclose(out, len(rows) * expected, rtol=5e-3, atol=5e-3)
        np.testing.assert_array_equal(own, np.ones(3))
        got, mean = out / len(rows), rows.mean(0)
        assert np.linalg.norm(got - mean) < c * np.linalg.norm(mean) * (1 + 1e-4)  # within the ball
        assert (
            min(rows @ got) > min(rows @ expected) - 1e-3 * np.abs(rows @ expected).max()
        )  # and the worst term gains as much


def test_cagrad_s_weights_lie_on_the_simplex_also_in_hard_cases():
    solve = jax.jit(weights)
    for rows in (vectors(6) * 10 ** RNG.uniform(-1, 1, (6, 1)), np.repeat(vectors(1), 6, 0), np.zeros((6, 7))):
        products = rows @ rows.T / max(np.mean(rows**2) * 7, 1e-9)
        w = np.asarray(solve(jnp.float32(products), jnp.float32(0.5)))
        assert (w >= 0).all() and w.sum() == pytest.approx(1, abs=1e-5)


def test_cagrad_with_c_0_is_the_sum_and_helps_the_worst_term_otherwise():
    rows = vectors()
    np.testing.assert_allclose(apply(aggregators.cagrad(c=0.0), rows)[0], rows.sum(0), rtol=1e-5)
    np.testing.assert_allclose(apply(aggregators.total(), rows)[0], rows.sum(0), rtol=1e-5)
    opposed = np.array([[1, 0.2], [-3, 0.2]]) @ np.eye(7)[:2]
    assert min(opposed @ apply(aggregators.cagrad(c=0.9), opposed)[0]) > min(opposed @ opposed.sum(0)) + 0.1
    g = vectors(1)[0]
    assert np.isfinite(apply(aggregators.cagrad(), np.stack([g, -g]))[0]).all()
    assert np.isfinite(apply(aggregators.cagrad(), np.zeros((2, 7)))[0]).all()


@pytest.mark.parametrize("name", ["gradnorm", "pcgrad", "cagrad"])
def test_what_a_scheme_cannot_work_with_is_refused(name):
    with pytest.raises(UserError, match=f"{name} combines the gradients of several terms, .* has only 'a'"):
        getattr(aggregators, name)().init(["a"], params())
    with pytest.raises(UserError, match="over='student.sha' names no trained parameters; .*student.shared"):
        getattr(aggregators, name)(over="student.sha").init(NAMES, params())


def test_uncertainty_refuses_a_term_that_is_not_there():
    with pytest.raises(UserError, match="regression names hint; the terms are: a, b, c"):
        aggregators.uncertainty(regression=("hint",)).init(NAMES, params())
