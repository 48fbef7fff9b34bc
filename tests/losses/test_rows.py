"""The contract of losses between rows: rows at zero, equal, opposite, left out, or on another device."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax import losses

from .harness import arrays, coupled, finite, hyper, mean, of_rows, value_and_gradients, zero


@of_rows
def test_zero_rows(case):
    inputs = arrays(case.inputs)
    inputs["student"] = inputs["student"].at[1].set(0)
    value, gradients = value_and_gradients(case, inputs)
    assert finite((value, gradients))
    assert float(jnp.abs(gradients["student"]).max()) < 100
    if case.still_at_zero:
        assert zero(gradients["student"][1])
        assert not zero(gradients["student"][0])
    nothing = inputs | {"student": jnp.zeros_like(inputs["student"])}
    value, gradients = value_and_gradients(case, nothing)
    assert finite((value, gradients))
    if case.couples or case.still_at_zero:
        assert zero(gradients["student"])


@coupled
def test_duplicate_rows(case):
    inputs = arrays(case.inputs)
    inputs["student"] = inputs["student"].at[1].set(inputs["student"][0])
    value, gradients = value_and_gradients(case, inputs)
    assert finite((value, gradients))
    assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(gradients)) < 100
    inputs["student"] = jnp.broadcast_to(inputs["student"][:1], inputs["student"].shape)
    value, gradients = value_and_gradients(case, inputs)
    assert finite((value, gradients))
    if case.loss in (losses.rkd_distance, losses.rkd_angle):  # no pair has a direction
        assert zero(gradients["student"])


@coupled
def test_a_model_fused_in(case):
    """A compiler rounds a row differently in different places; a row's relation to itself is not to suffer."""

    def embed(x):
        return x / jnp.sqrt(jnp.sum(x * x, -1, keepdims=True))

    inputs = {k: v.reshape(len(v), -1) for k, v in arrays(case.inputs).items()}
    embedded, back = jax.vjp(partial(jax.tree.map, embed), inputs)
    expected, gradients = value_and_gradients(case, embedded)
    (wanted,) = back(gradients)
    fused, gradients = jax.jit(jax.value_and_grad(lambda x: mean(case, jax.tree.map(embed, x))))(inputs)
    np.testing.assert_allclose(fused, expected, rtol=1e-4)
    for k in inputs:
        np.testing.assert_allclose(gradients[k], wanted[k], rtol=1e-3, atol=1e-5)


@coupled
def test_opposite_rows(case):
    """A cosine of −1 may round to less: tried on many pairs."""
    x, y = np.random.default_rng(1).normal(size=(2, 200, 1, 8))
    inputs = arrays({"student": np.concatenate([x, -x], 1), "teacher": np.concatenate([y, -3.3 * y], 1)})
    for pair in (inputs, {"student": inputs["teacher"], "teacher": inputs["student"]}):
        assert finite(jax.vmap(lambda x: value_and_gradients(case, x))(pair))


@coupled
def test_where_is_removal(case):
    """Whatever stands in the rows that do not count, they are no partners, and get the gradient 0."""
    keep = np.array([True, False, True, True, False])[: len(case.inputs["student"])]
    inputs = arrays(case.inputs)
    kept = {k: x[keep] for k, x in inputs.items()}
    expected, wanted = value_and_gradients(case, kept)
    full, _ = value_and_gradients(case, inputs)
    assert abs(float(full - expected)) > 1e-6  # the removed rows would have mattered
    for there in (7.0, 0.0, jnp.nan, jnp.inf):
        spoilt = {k: x.at[~keep].set(there) for k, x in inputs.items()}
        value, gradients = value_and_gradients(case, spoilt, jnp.asarray(keep))
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-7)
        for k in case.floating:
            np.testing.assert_allclose(gradients[k][keep], wanted[k], rtol=1e-4, atol=1e-6)
            assert zero(gradients[k][~keep])


@coupled
def test_one_valid_row_and_none(case):
    inputs = arrays(case.inputs)
    n = len(inputs["student"])
    for valid in (1, 0):
        value, gradients = value_and_gradients(case, inputs, jnp.arange(n) < valid)
        assert finite((value, gradients))
        assert valid or zero((value, gradients))


@coupled
def test_devices_see_each_others_rows(case):
    """With `axis`, two devices with half the rows each give what one device with all rows gives."""
    inputs = {k: x[:4] for k, x in arrays(case.inputs).items()}
    where = jnp.array([True, True, False, True])
    numbers = hyper(case)

    def whole(x):
        return case.loss(**x, **numbers, where=where)

    def halves(x):
        two = {k: v.reshape(2, 2, *v.shape[1:]) for k, v in x.items()}
        each = jax.vmap(lambda v, w: case.loss(**v, **numbers, where=w, axis="data"), axis_name="data")
        return each(two, where.reshape(2, 2)).reshape(4)

    (value, gradients), (expected, wanted) = (
        jax.jit(jax.value_and_grad(lambda x, f=f: jnp.sum(jnp.where(where, f(x), 0))))(inputs) for f in (halves, whole)
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for k in case.floating:
        np.testing.assert_allclose(gradients[k], wanted[k], rtol=1e-4, atol=1e-6)
