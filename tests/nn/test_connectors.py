"""Connectors compute what they say, and train as models do."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import losses
from mmkd_jax.core.model import StepContext
from mmkd_jax.core.objective import term
from mmkd_jax.core.outputs import Outputs
from mmkd_jax.nn import connectors

RNG = np.random.default_rng(0)
ROWS = RNG.normal(1, 2, size=(6, 3)).astype(np.float32)
MAPS = RNG.normal(1, 2, size=(2, 4, 4, 3)).astype(np.float32)


def context(train=False, axis_name=None):
    return StepContext(0, jax.random.key(0), train=train, axis_name=axis_name)


def start(module, *x, key=1):
    """Its first variables, in NumPy; as one program, which compiles in less time than its operations."""
    return jax.device_get(jax.jit(lambda key, *x: module.init(key, *x, context()))(jax.random.key(key), *x))


def run(module, variables, *x, train=False):
    """What it gives, in training with the statistics that it keeps; as one program."""
    mutable = {"mutable": ["batch_stats"]} if train else {}
    return jax.device_get(jax.jit(lambda v, *x: module.apply(v, *x, context(train), **mutable))(variables, *x))


def test_linear_on_rows_and_tokens():
    module = connectors.Linear(5)
    variables = start(module, ROWS)
    kernel, bias = (variables["params"]["Dense_0"][k] for k in ("kernel", "bias"))
    assert set(variables) == {"params"}
    np.testing.assert_allclose(run(module, variables, ROWS), ROWS @ kernel + bias, rtol=1e-5, atol=1e-5)
    tokens = ROWS.reshape(2, 3, 3)
    ours, _ = run(module, variables, tokens, train=True)
    np.testing.assert_allclose(ours, (ROWS @ kernel + bias).reshape(2, 3, 5), rtol=1e-5, atol=1e-5)


def test_mlp_and_its_hidden_width():
    module = connectors.MLP(4, hidden=7)
    params = start(module, ROWS)["params"]
    first, last = params["Dense_0"], params["Dense_1"]
    assert first["kernel"].shape == (3, 7) and last["kernel"].shape == (7, 4)
    assert start(connectors.MLP(4), ROWS)["params"]["Dense_0"]["kernel"].shape == (3, 4)
    expected = np.maximum(ROWS @ first["kernel"] + first["bias"], 0) @ last["kernel"] + last["bias"]
    np.testing.assert_allclose(run(module, {"params": params}, ROWS), expected, rtol=1e-5, atol=1e-5)


def test_each_layer_has_a_connector_of_its_own():
    layers = (ROWS.reshape(2, 3, 3), MAPS)
    module = connectors.Each((connectors.Linear(5), connectors.Conv(2)))
    variables = start(module, layers)
    parts = zip(module.connectors, variables["params"].values(), layers, strict=True)
    expected = [run(one, {"params": params}, x) for one, params, x in parts]
    jax.tree.map(np.testing.assert_array_equal, run(module, variables, layers), tuple(expected))
    with pytest.raises(ValueError, match="zip"):
        start(module, layers[:1])


def test_conv_of_one_pixel_is_linear_and_stride_halves():
    module = connectors.Conv(5)
    params = start(module, MAPS)["params"]
    expected = MAPS @ params["Conv_0"]["kernel"][0, 0] + params["Conv_0"]["bias"]
    np.testing.assert_allclose(run(module, {"params": params}, MAPS), expected, rtol=1e-5, atol=1e-5)
    halved = connectors.Conv(5, kernel=3, stride=2)
    variables = start(halved, MAPS)
    assert variables["params"]["Conv_0"]["kernel"].shape == (3, 3, 3, 5)
    out = run(halved, variables, MAPS)
    assert out.shape == (2, 2, 2, 5)
    # the first window begins one place before the map, whatever the stride: as without one
    whole = run(connectors.Conv(5, kernel=3), variables, MAPS)
    np.testing.assert_allclose(out, whole[:, ::2, ::2], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "x"),
    [
        (connectors.Linear(5, batch_norm=True), ROWS),
        (connectors.MLP(5, batch_norm=True), ROWS),
        (connectors.Conv(5, kernel=3, batch_norm=True), MAPS),
        (connectors.Bottleneck(5, 4), MAPS),
        (connectors.Bottleneck(5, 4, activated=True), ROWS),
    ],
    ids=["linear", "mlp", "conv", "bottleneck", "bottleneck of rows"],
)
def test_batch_norm(module, x):
    """In training by the batch, whose statistics it keeps; else by what was kept. Over devices by all of them."""
    variables, x = jax.tree.map(jnp.asarray, (start(module, x), x))
    assert set(variables) == {"params", "batch_stats"}
    assert "bias" not in variables["params"].get("Dense_0", variables["params"].get("Conv_0"))
    train = jax.jit(lambda v, x: module.apply(v, x, context(train=True), mutable=["batch_stats"]))
    out, state = train(variables, x)
    # scale and shift of the input cancel in a normalized layer without a bias (but for the ε in the variance)
    scaled, _ = train(variables, 3 * x)
    np.testing.assert_allclose(scaled, out, atol=1e-3)
    kept, before = state["batch_stats"]["BatchNorm_0"], variables["batch_stats"]["BatchNorm_0"]
    assert np.abs(kept["mean"] - before["mean"]).max() > 1e-3
    still = run(module, variables, x)
    assert np.abs(still - out).max() > 1e-2
    assert np.abs(run(module, variables | state, x) - still).max() > 1e-3
    halves = x.reshape(2, len(x) // 2, *x.shape[1:])
    both = jax.vmap(
        lambda half: module.apply(variables, half, context(train=True, axis_name="data"), mutable=["batch_stats"]),
        axis_name="data",
    )
    parts, states = jax.jit(both)(halves)
    np.testing.assert_allclose(parts.reshape(out.shape), out, rtol=1e-4, atol=1e-4)
    for k in kept:
        np.testing.assert_allclose(states["batch_stats"]["BatchNorm_0"][k][0], kept[k], rtol=1e-4, atol=1e-5)


def test_linear_batch_norm_is_normalised():
    module = connectors.Linear(5, batch_norm=True)
    out, _ = run(module, start(module, ROWS), ROWS, train=True)
    np.testing.assert_allclose(out.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(out.var(0), 1, atol=1e-3)
    maps = connectors.Conv(5, batch_norm=True)
    out, _ = run(maps, start(maps, MAPS), MAPS, train=True)
    assert out.min() == 0 and out.max() > 1  # a ReLU follows


@pytest.mark.parametrize(
    ("module", "x"),
    [
        (connectors.Linear(5, batch_norm=True), ROWS),
        (connectors.MLP(5, batch_norm=True), ROWS),
        (connectors.Bottleneck(5, 4), MAPS),
        (connectors.Resampler(2, 8), MAPS[:, 0]),
    ],
    ids=["linear", "mlp", "bottleneck", "resampler"],
)
def test_no_silent_promotion(module, x, strict):
    out, _ = run(module, start(module, x), x, train=True)
    assert out.dtype == jnp.float32


def test_bottleneck_ends_in_a_relu_if_it_is_activated():
    for x in (ROWS, MAPS):
        plain, activated = connectors.Bottleneck(5, 4), connectors.Bottleneck(5, 4, activated=True)
        of_plain, of_activated = start(plain, x), start(activated, x)
        assert len(of_plain["batch_stats"]) == 2 and len(of_activated["batch_stats"]) == 3
        assert run(plain, of_plain, x).min() < 0
        assert run(activated, of_activated, x).min() == 0


def fused(params, x, residual, size):
    """ABF with running statistics, which start as mean 0 and variance 1."""

    def normal(x):
        return x / np.sqrt(1 + 1e-5)

    def resized(x, size):
        rows, columns = (np.arange(m) * n // m for n, m in zip(x.shape[1:3], size, strict=True))
        return x[:, rows][:, :, columns]

    x = normal(x @ params["inward"]["kernel"][0, 0])
    if residual is not None:
        residual = resized(residual, x.shape[1:3])
        both = np.concatenate([x, residual], -1)
        share = 1 / (1 + np.exp(-(both @ params["attention"]["kernel"][0, 0] + params["attention"]["bias"])))
        x = x * share[..., :1] + residual * share[..., 1:]
    x = resized(x, size)
    edges, (h, w) = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), size
    taps = [edges[:, i : i + h, j : j + w] @ params["outward"]["kernel"][i, j] for i in range(3) for j in range(3)]
    return normal(sum(taps)), x


@pytest.mark.parametrize("size", [(4, 4), (6, 3), (2, 1)], ids=str)
def test_abf_fuses_what_the_deeper_stage_left(size):
    deep, fuse = connectors.ABF(6, 5, (2, 2)), connectors.ABF(6, 7, size)
    first = start(deep, MAPS[:, ::2, ::2], None, key=0)
    assert "attention" not in first["params"]  # nothing to fuse yet
    out, residual = run(deep, first, MAPS[:, ::2, ::2], None)
    expected, left = fused(first["params"], MAPS[:, ::2, ::2], None, (2, 2))
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(residual, left, rtol=1e-4, atol=1e-5)
    variables = start(fuse, MAPS, residual)
    out, residual = run(fuse, variables, MAPS, residual)
    assert out.shape == (2, *size, 7) and residual.shape == (2, *size, 6)
    expected, left = fused(variables["params"], MAPS, left, size)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(residual, left, rtol=1e-4, atol=1e-5)


def test_resampler_gives_as_many_tokens_as_it_is_asked_for():
    draw = np.random.default_rng(3)
    short, long = (draw.normal(size=(3, n, 5)).astype(np.float32) for n in (2, 7))
    module = connectors.Resampler(4, 8, heads=2, layers=2)
    variables = start(module, short)
    rows, turned = run(module, variables, long), run(module, variables, long[:, ::-1])
    assert run(module, variables, short).shape == rows.shape == (3, 4, 8)
    np.testing.assert_allclose(turned, rows, rtol=1e-4, atol=1e-5)  # a set, for it: no positions
    assert min(np.abs(rows[:, i] - rows[:, j]).max() for i in range(4) for j in range(i)) > 1e-2


def test_resampler_sees_nothing_outside_the_mask():
    draw = np.random.default_rng(4)
    x = draw.normal(size=(3, 6, 5)).astype(np.float32)
    mask = jnp.arange(6)[None] < jnp.array([[4], [6], [0]])
    module = connectors.Resampler(2, 8)
    variables = start(module, (x, mask))

    def value(x, variables):
        out: Any = module.apply(variables, (x, mask), context())
        return jnp.sum(out**2 * jnp.arange(8.0)), out

    both = jax.jit(jax.value_and_grad(value, (0, 1), has_aux=True))
    (_, out), (slope, learned) = jax.device_get(both(x, variables))
    np.testing.assert_allclose(out[:1], run(module, variables, x[:1, :4]), rtol=1e-4, atol=1e-5)
    assert not np.any(slope[~np.asarray(mask)]) and all(np.abs(g).max() > 0 for g in jax.tree.leaves(learned))
    (_, spoilt), gradients = both(np.where(mask[..., None], x, np.float32(np.nan)), variables)
    np.testing.assert_array_equal(spoilt, out)
    jax.tree.map(np.testing.assert_array_equal, gradients, (slope, learned))


def test_resampler_takes_tokens_and_mask_from_an_experiment():
    draw = np.random.default_rng(5)
    few, many = (jnp.asarray(draw.normal(size=(3, n, 5)), jnp.float32) for n in (4, 6))
    mask = jnp.arange(6)[None] < jnp.array([[4], [6], [1]])
    outputs = Outputs({"text.mask": mask}, {"student": {"hidden": many}, "teacher": {"hidden": few}}, {}, context())
    paths = {"student": ("student.hidden", "batch.text.mask"), "teacher": "teacher.hidden"}
    hint = term(losses.hint, **paths, connect={"student": connectors.Resampler(4, 5, heads=1)})
    params, state = jax.jit(lambda: hint.init(outputs))()
    made = jax.jit(lambda params: hint.apply(params, state, outputs)[0].values)(params)
    tokens = run(connectors.Resampler(4, 5, heads=1), {"params": params["student"]}, (many, mask))
    np.testing.assert_allclose(made, np.mean((tokens - few) ** 2, (1, 2)), rtol=1e-5)
