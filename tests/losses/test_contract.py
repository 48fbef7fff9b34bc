"""The contract of every loss, held against every row of `cases/`: values, gradients, dtypes, populations, devices."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_vjp

from mmkd_jax import losses
from tests.losses.cases import CASES
from tests.losses.harness import (
    arrays,
    by_rows,
    close,
    coupled,
    every,
    finite,
    hyper,
    largest,
    mean,
    only,
    program,
    run,
    split_numbers,
    zero,
)


def test_every_loss_has_a_row():
    ours = {n for n, f in vars(losses).items() if inspect.isfunction(f)} - {"topk"}  # which makes a teacher's record
    assert ours == {c.loss.__name__ for c in CASES.values()}


def test_every_number_is_named_by_a_row():
    named = {(c.loss.__name__, k) for c in CASES.values() for k in c.hyper}
    numbers = {(c.loss.__name__, k) for c in CASES.values() for k in c.numbers}
    assert numbers - named == set()


@every
def test_value_by_hand(case):
    inputs, numbers, values = case.by_hand
    close(jax.jit(partial(case.loss, **numbers))(**arrays(inputs)), np.float32(values), 1e-5, 2e-6)


@only(lambda case: case is next(c for c in CASES.values() if c.topic == case.topic))
def test_without_compiling(case):
    """Operation by operation, which compiles each: one loss of each topic stands for all."""
    inputs, numbers, values = case.by_hand
    close(case.loss(**arrays(inputs), **numbers), np.float32(values), 1e-5, 2e-6)


@pytest.mark.full
@every
def test_formula(case):
    """Float64 stays float64 and is exact; every leading axis is kept."""
    expected = np.asarray(case.reference(**case.inputs, **case.hyper))
    with jax.enable_x64(True):
        _, ours, _ = run(case, arrays(case.inputs))
        assert ours.dtype == jnp.float64 and ours.shape == expected.shape
        close(ours, expected, 1e-10, 1e-13)


@pytest.mark.full
@every
def test_gradients_are_finite_differences(case):
    """Also under a mask, where the loss couples rows."""
    with jax.enable_x64(True):
        inputs = arrays(case.inputs)
        moving = {k: inputs[k] for k in case.floating}
        where = jnp.arange(case.rows) != 1 if case.couples else None
        held = case.stopped and case.stopped(case.inputs, **case.hyper)

        def value(x):
            return held(case.inputs | x) if held else run(case, inputs | x, where)[0]

        def pullback(x):
            out, _, gradients = run(case, inputs | x, where)
            return out, lambda ct: (jax.tree.map(lambda g: ct * g, gradients),)

        check_vjp(value, pullback, (moving,), rtol=1e-6, atol=1e-8, eps=1e-5)


@pytest.mark.slow
@every
def test_half_precision_is_computed_in_float32(case, strict):
    """A bfloat16 student, a float32 teacher, no silent promotion; gradients come back in the inputs' dtypes."""
    inputs = arrays(case.inputs)
    first = case.floating[0]
    inputs[first] = jax.tree.map(lambda x: x.astype(jnp.bfloat16), inputs[first])
    value, values, gradients = jax.eval_shape(partial(run, case), inputs)
    assert value.dtype == values.dtype == jnp.float32
    assert jax.tree.map(lambda g: g.dtype, gradients) == {
        k: jax.tree.map(lambda x: x.dtype, inputs[k]) for k in case.floating
    }
    numbers, static = split_numbers(case, jnp.float32)
    values = jax.jit(partial(case.loss, **static))(**inputs, **numbers)
    exact = jax.tree.map(lambda x: np.asarray(x, np.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, inputs)
    close(values, case.reference(**jax.tree.map(np.asarray, exact), **case.hyper), 1e-4, 1e-5)


@pytest.mark.slow
@every
def test_a_population_is_a_loop(case):
    """Over inputs and numbers at once: values and gradients; and every number that a row names matters."""
    inputs = arrays(case.inputs)
    others = {k: x for k, x in inputs.items() if k not in case.floating}
    numbers, _ = split_numbers(case, jnp.float32)
    one, where = program(case), jnp.ones(case.rows, bool)
    members = [jax.device_get(({k: inputs[k] for k in case.floating}, numbers))]
    members += [jax.tree.map(lambda x, scale=scale: np.float32(x * scale), members[0]) for scale in (0.5, 0.9)]
    together = jax.jit(jax.vmap(one, (0, None, 0, None)))
    moving, mine = jax.tree.map(lambda *x: np.stack(x), *members)
    (means, values), gradients = jax.device_get(together(moving, others, mine, where))
    for i, (moving, mine) in enumerate(members):
        (mean_, values_), gradients_ = one(moving, others, mine, where)
        close((means[i], values[i]), (mean_, values_), 1e-5, 1e-6)
        close(jax.tree.map(lambda g, i=i: g[i], gradients), gradients_, 1e-4, 1e-5 * max(1.0, largest(gradients_)))
    (_, before), _ = one(members[0][0], others, numbers, where)
    for k in case.hyper.keys() & numbers:
        (_, after), _ = one(members[0][0], others, numbers | {k: numbers[k] * 0.5}, where)
        assert largest(after - before) > 1e-5 * largest(before), k


@pytest.mark.full
@coupled
def test_where_is_removal(case):
    """Whatever stands in the rows that do not count, they are no partners, and get the gradient 0."""
    with jax.enable_x64(True):
        inputs = arrays(case.inputs)
        keep = np.arange(case.rows) % 3 != 1
        kept, numbers = by_rows(case, lambda x: x[keep], (case.inputs, case.hyper))
        expected = np.asarray(case.reference(**kept, **numbers))
        full, _, _ = run(case, inputs)
        assert abs(float(full) - expected.mean()) > 1e-6 * abs(expected.mean())  # the removed rows would have mattered
        wanted = None
        for there in (7.0, 0.0, jnp.nan, jnp.inf):
            spoilt = by_rows(case, lambda x, there=there: spoil(x, ~keep, there), inputs)
            _value, values, gradients = run(case, spoilt, jnp.asarray(keep))
            close(values[keep] if values.ndim else values, expected, 1e-9, 1e-12)
            mine = [g for g in jax.tree.leaves(gradients) if len(g) == case.rows]
            assert zero([g[~keep] for g in mine])
            wanted = wanted or mine
            close(mine, wanted, 1e-9, 1e-12)


def spoil(x, rows, value):
    return x.at[rows].set(value) if jnp.issubdtype(x.dtype, jnp.floating) else x


@coupled
def test_one_valid_row_and_none(case):
    inputs = arrays(case.inputs)
    for valid in (1, 0):
        value, _, gradients = run(case, inputs, jnp.arange(case.rows) < valid)
        assert finite((value, gradients))
        assert valid or zero((value, gradients))


# the way back round the ring must know the devices: its gradient is taken per device, as in tests/sharded/
@pytest.mark.full
@only(lambda case: "axis_name" in case.parameters and not case.hyper.get("ring"))
def test_devices_see_each_others_rows(case):
    """With `axis_name`, two devices with half the rows each give what one device with all rows gives."""
    rows = case.rows // 2 * 2
    inputs = by_rows(case, lambda x: x[:rows], arrays(case.inputs))
    numbers = by_rows(case, lambda x: x[:rows], hyper(case))
    where = jnp.arange(rows) != 1

    def halves(x):
        two = jax.tree.map(lambda v: v.reshape(2, rows // 2, *v.shape[1:]) if len(v) == rows else v, x)
        each = jax.vmap(
            lambda v, w: case.loss(**v, **numbers, where=w, axis_name="data"),
            (jax.tree.map(lambda v: 0 if v.shape[:2] == (2, rows // 2) else None, two), 0),
            axis_name="data",
        )
        values = each(two, where.reshape(2, rows // 2))
        if values.ndim == 1:  # one for the whole batch, the same on each device
            return jnp.mean(values)
        return mean(values.reshape(rows, *values.shape[2:]), where)

    floating = {k: inputs.pop(k) for k in case.floating}
    value, gradients = jax.jit(jax.value_and_grad(lambda x: halves(x | inputs)))(floating)
    traced, _ = split_numbers(case, jnp.float32)
    (expected, _), wanted = program(case)(floating, inputs, traced, where)
    close(value, expected, 1e-5, 1e-7)
    close(gradients, wanted, 1e-4, 1e-6)
