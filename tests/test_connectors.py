"""Connectors compute what they say, and train as models do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import connectors
from mmkd_jax.views import Context

RNG = np.random.default_rng(0)
ROWS = jnp.asarray(RNG.normal(1, 2, size=(6, 3)), jnp.float32)
MAPS = jnp.asarray(RNG.normal(1, 2, size=(2, 4, 4, 3)), jnp.float32)


def context(train=False, axis=None):
    return Context(0, jax.random.key(0), train=train, axis=axis)


def start(module, x):
    return module.init(jax.random.key(1), x, context())


def test_linear_on_rows_and_tokens():
    module = connectors.Linear(5)
    variables = start(module, ROWS)
    kernel, bias = (variables["params"]["Dense_0"][k] for k in ("kernel", "bias"))
    assert set(variables) == {"params"}
    np.testing.assert_allclose(module.apply(variables, ROWS, context()), ROWS @ kernel + bias, rtol=1e-5, atol=1e-5)
    tokens = ROWS.reshape(2, 3, 3)
    ours = module.apply(variables, tokens, context(train=True))
    np.testing.assert_allclose(ours, (ROWS @ kernel + bias).reshape(2, 3, 5), rtol=1e-5, atol=1e-5)


def test_mlp_and_its_hidden_width():
    module = connectors.MLP(4, hidden=7)
    params = start(module, ROWS)["params"]
    first, last = params["Dense_0"], params["Dense_1"]
    assert first["kernel"].shape == (3, 7) and last["kernel"].shape == (7, 4)
    assert start(connectors.MLP(4), ROWS)["params"]["Dense_0"]["kernel"].shape == (3, 4)
    expected = np.maximum(ROWS @ first["kernel"] + first["bias"], 0) @ last["kernel"] + last["bias"]
    np.testing.assert_allclose(module.apply({"params": params}, ROWS, context()), expected, rtol=1e-5, atol=1e-5)


def test_each_layer_has_a_connector_of_its_own():
    layers = (ROWS.reshape(2, 3, 3), MAPS)
    module = connectors.Each((connectors.Linear(5), connectors.Conv(2)))
    variables = start(module, layers)
    parts = zip(module.connectors, variables["params"].values(), layers, strict=True)
    expected = [one.apply({"params": params}, x, context()) for one, params, x in parts]
    jax.tree.map(np.testing.assert_array_equal, module.apply(variables, layers, context()), tuple(expected))
    with pytest.raises(ValueError):
        start(module, layers[:1])


def test_conv_of_one_pixel_is_linear_and_stride_halves():
    module = connectors.Conv(5)
    params = start(module, MAPS)["params"]
    expected = MAPS @ params["Conv_0"]["kernel"][0, 0] + params["Conv_0"]["bias"]
    np.testing.assert_allclose(module.apply({"params": params}, MAPS, context()), expected, rtol=1e-5, atol=1e-5)
    halved = connectors.Conv(5, kernel=3, stride=2)
    variables = start(halved, MAPS)
    assert variables["params"]["Conv_0"]["kernel"].shape == (3, 3, 3, 5)
    assert halved.apply(variables, MAPS, context()).shape == (2, 2, 2, 5)


@pytest.mark.parametrize(
    "module, x",
    [
        (connectors.Linear(5, batch_norm=True), ROWS),
        (connectors.MLP(5, batch_norm=True), ROWS),
        (connectors.Conv(5, kernel=3, batch_norm=True), MAPS),
    ],
    ids=["linear", "mlp", "conv"],
)
def test_batch_norm(module, x):
    """In training by the batch, whose statistics it keeps; else by what was kept. Over devices by all of them."""
    variables = start(module, x)
    assert set(variables) == {"params", "batch_stats"}
    assert "bias" not in variables["params"].get("Dense_0", variables["params"].get("Conv_0"))
    train = jax.jit(lambda v, x: module.apply(v, x, context(train=True), mutable=["batch_stats"]))
    out, state = train(variables, x)
    # scale and shift of the input cancel in a normalised layer without a bias (but for the ε in the variance)
    scaled, _ = train(variables, 3 * x)
    np.testing.assert_allclose(scaled, out, atol=1e-3)
    kept, before = state["batch_stats"]["BatchNorm_0"], variables["batch_stats"]["BatchNorm_0"]
    assert float(jnp.abs(kept["mean"] - before["mean"]).max()) > 1e-3
    still = module.apply(variables, x, context())
    assert float(jnp.abs(still - out).max()) > 1e-2
    assert float(jnp.abs(module.apply(variables | state, x, context()) - still).max()) > 1e-3
    halves = x.reshape(2, len(x) // 2, *x.shape[1:])
    both = jax.vmap(
        lambda half: module.apply(variables, half, context(train=True, axis="data"), mutable=["batch_stats"]),
        axis_name="data",
    )
    parts, states = jax.jit(both)(halves)
    np.testing.assert_allclose(parts.reshape(out.shape), out, rtol=1e-4, atol=1e-4)
    for k in kept:
        np.testing.assert_allclose(states["batch_stats"]["BatchNorm_0"][k][0], kept[k], rtol=1e-4, atol=1e-5)


def test_linear_batch_norm_is_normalised():
    module = connectors.Linear(5, batch_norm=True)
    out, _ = module.apply(start(module, ROWS), ROWS, context(train=True), mutable=["batch_stats"])
    np.testing.assert_allclose(out.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(out.var(0), 1, atol=1e-3)
    maps = connectors.Conv(5, batch_norm=True)
    out, _ = maps.apply(start(maps, MAPS), MAPS, context(train=True), mutable=["batch_stats"])
    assert float(out.min()) == 0 and float(out.max()) > 1  # a ReLU follows


@pytest.mark.parametrize("make", [connectors.Linear, connectors.MLP], ids=["linear", "mlp"])
def test_no_silent_promotion(make, strict):
    module = make(5, batch_norm=True)
    variables = start(module, ROWS)
    out, _ = module.apply(variables, ROWS, context(train=True), mutable=["batch_stats"])
    assert out.dtype == jnp.float32
