"""BatchNorm: flax's where all rows count; padding, whatever stands there, changes nothing."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax import losses
from mmkd_jax.core.model import StepContext
from mmkd_jax.core.objective import term, total
from mmkd_jax.core.outputs import Outputs
from mmkd_jax.nn.batch_norm import BatchNorm
from mmkd_jax.nn.connectors import Linear

X = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3, 4)) * 3 + 1, jnp.float32)
KEEP = jnp.array([True, True, False, True, False, True])


def run(module, variables, x, *more, **options):
    return jax.jit(lambda v, x: module.apply(v, x, *more, mutable=["batch_stats"], **options))(variables, x)


def test_it_is_flax_where_all_rows_count():
    ctx = StepContext(0, jax.random.key(0))
    ours, theirs = BatchNorm(momentum=0.9), nn.BatchNorm(use_running_average=False, momentum=0.9)
    variables = ours.init(jax.random.key(0), X, ctx._replace(train=False))
    shapes = jax.tree.map(jnp.shape, theirs.init(jax.random.key(0), X))
    assert jax.tree.map(jnp.shape, variables) == shapes
    for mine, flax in zip(
        jax.tree.leaves(run(ours, variables, X, ctx)), jax.tree.leaves(run(theirs, variables, X)), strict=True
    ):
        np.testing.assert_allclose(mine, flax, rtol=1e-5, atol=1e-5)
    still, _ = run(ours, variables, X, ctx._replace(train=False))
    np.testing.assert_allclose(still, X / np.sqrt(1 + 1e-5), rtol=1e-6)


def test_rows_that_do_not_count_change_nothing():
    ctx = StepContext(0, jax.random.key(0), where=KEEP)
    module = BatchNorm()
    variables = module.init(jax.random.key(0), X, ctx._replace(train=False))
    (expected, wanted) = run(module, variables, X[KEEP], ctx._replace(where=None))
    for there in (0.0, 1e4, jnp.nan):
        y, state = run(module, variables, X.at[~KEEP].set(there), ctx)
        np.testing.assert_allclose(y[KEEP], expected, rtol=1e-5, atol=1e-6)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), state, wanted)
    _, state = run(module, variables, X, ctx._replace(where=jnp.zeros(6, bool)))
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, state["batch_stats"], variables["batch_stats"])))


def test_devices_with_unlike_numbers_of_rows_are_one_batch():
    module = BatchNorm()
    variables = module.init(jax.random.key(0), X, StepContext(0, jax.random.key(0), train=False))
    expected = run(module, variables, X, StepContext(0, jax.random.key(0), where=KEEP))

    def each(x, where):
        ctx = StepContext(0, jax.random.key(0), axis_name="data", where=where)
        return module.apply(variables, x, ctx, mutable=["batch_stats"])

    y, state = jax.vmap(each, axis_name="data")(X.reshape(3, 2, 3, 4), KEEP.reshape(3, 2))
    np.testing.assert_allclose(y.reshape(X.shape), expected[0], rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-5), state, expected[1])


def test_a_term_leaves_out_of_its_connector_what_it_leaves_out_of_its_mean():
    connect = {"student": Linear(4, batch_norm=True)}
    hint = term(losses.hint, student="student.x", teacher="teacher.x", where="keep", connect=connect)

    def value(x):
        model_outputs = {"student": {"x": x}, "teacher": {"x": X[:, 0]}}
        outputs = Outputs({"keep": KEEP}, model_outputs, {}, StepContext(0, jax.random.key(0)))
        params, state = hint.init(outputs)
        terms, after = hint.apply(params, state, outputs)
        return total({"hint": terms})[0], after["state"]

    expected = value(X[:, 1])
    for there in (0.0, 100.0):
        found = value(X[:, 1].at[~KEEP].set(there))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected)
