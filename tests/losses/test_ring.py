"""Contrastive losses a few rows at a time, where the whole batch is there: the same numbers, in less memory."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import losses
from tests.losses.harness import close, finite, largest, mean

LOSSES = {
    "one direction": losses.info_nce,
    "both directions": partial(losses.info_nce, symmetric=True),
    "sigmoid": partial(losses.siglip, bias=-1.0),
}
each = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def inputs(rows, dtype=None) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    return {n: jnp.asarray(draw.normal(size=(rows, 6)), dtype) for n in ("student", "teacher")}


def slopes(loss, x, where=None, **options):
    def value(x):
        return mean(loss(**x, where=where, **options), where)

    return jax.jit(jax.value_and_grad(value))(x)


@pytest.mark.slow
@each
def test_several_tiles_and_one_that_is_not_full(loss):
    where = jnp.asarray(np.random.default_rng(1).random(300) < 0.3).at[128:].set(False)
    with jax.enable_x64(True):
        x = inputs(300) | {"temperature": jnp.asarray(0.3)}
        for mask in (None, where):
            close(slopes(loss, x, mask, ring=True), slopes(loss, x, mask), 1e-9, 1e-13)
    low = jax.tree.map(lambda v: v.astype(jnp.bfloat16), inputs(300))
    (value, ours), (expected, wanted) = slopes(loss, low, where, ring=True), slopes(loss, low, where)
    assert value.dtype == jnp.float32 and {v.dtype for v in ours.values()} == {jnp.dtype(jnp.bfloat16)}
    close(value, expected, 1e-6)
    close(*(jax.tree.map(lambda v: v.astype(jnp.float32), g) for g in (ours, wanted)), rtol=1e-2, atol=1e-5)


@pytest.mark.slow
@each
@pytest.mark.parametrize("temperature", [1e-6, 1e-3, 1e6])
def test_any_temperature(loss, temperature):
    x = inputs(12) | {"temperature": jnp.float32(temperature)}
    value, ours = slopes(loss, x, ring=True)
    expected, wanted = slopes(loss, x)
    assert finite((value, ours))
    close(value, expected, 1e-5)
    for name in ours:
        close(ours[name], wanted[name], 1e-3, 1e-5 * largest(wanted[name]))


def test_a_match_that_is_nearly_perfect_keeps_its_digits():
    """Of log-sum-exp − score, float32 would leave none."""
    x = jnp.eye(4)
    value = losses.info_nce(x, x, temperature=0.05, ring=True)
    np.testing.assert_allclose(value, np.full(4, np.log1p(3 * np.exp(-20.0))), rtol=1e-5)


@pytest.mark.full
@each
def test_less_memory(loss):
    def temporaries(ring):
        x = {n: jax.ShapeDtypeStruct((2048, 32), jnp.float32) for n in ("student", "teacher")}
        program = jax.jit(jax.grad(lambda x: jnp.mean(loss(**x, ring=ring)))).lower(x).compile()
        stats = program.memory_analysis()
        assert stats is not None
        return stats.temp_size_in_bytes

    assert temporaries(True) < temporaries(False) / 5


def test_the_sigmoid_loss_is_cross_entropy_of_each_pair():
    x = inputs(7)
    s, t = (v / jnp.linalg.norm(v, axis=-1, keepdims=True) for v in x.values())
    rows = losses.binary_cross_entropy(s @ t.T / 0.5 - 1, jnp.eye(7))
    for ring in (False, True):
        np.testing.assert_allclose(losses.siglip(**x, temperature=0.5, bias=-1.0, ring=ring), 7 * rows, rtol=1e-5)
