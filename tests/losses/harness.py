"""What the tests of the contract share: which rows a clause is about, and one compiled program a row."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.losses.cases import CASES


def only(chosen):
    """The rows to which a clause applies."""
    some = {name: case for name, case in CASES.items() if chosen(case)}
    return pytest.mark.parametrize("case", some.values(), ids=some.keys())


every = only(lambda case: True)
coupled = only(lambda case: case.couples)
of_logits = only(lambda case: case.infinite is not None)
# features that still go through a head are no zero rows of anything that is compared
# a student's and a teacher's rows and nothing else, compared with each other
of_pairs = only(
    lambda case: (
        case.topic in ("relational", "contrastive")
        and set(case.inputs) == {"student", "teacher"}
        and isinstance(case.inputs["teacher"], np.ndarray)
    )
)
of_rows = only(lambda case: case.infinite is None and "student" in case.inputs and "head" not in case.inputs)


def arrays(inputs, dtype=None):
    """Inputs as JAX arrays, the floating ones as `dtype`."""
    return jax.tree.map(lambda x: jnp.asarray(x, dtype if x.dtype.kind == "f" else None), inputs)


def split_numbers(case, dtype):
    """Hyperparameters that may be traced, as arrays, whether the row names them or not; and the others."""
    traced = {k: jnp.asarray(case.hyper.get(k, case.parameters[k].default), dtype) for k in case.numbers}
    return traced, {k: v for k, v in case.hyper.items() if k not in case.numbers}


def hyper(case, dtype=jnp.float32):
    """All hyperparameters, the numbers as arrays."""
    traced, static = split_numbers(case, dtype)
    return traced | static


def mean(values, where=None):
    """Over the rows that count, as an objective takes it; a value for the whole batch has taken it itself."""
    if where is None:
        return jnp.mean(values)
    if values.ndim == 0:
        return jnp.where(jnp.any(where), values, 0)
    mask = jnp.broadcast_to(where.reshape(where.shape + (1,) * (values.ndim - where.ndim)), values.shape)
    return jnp.sum(jnp.where(mask, values, 0)) / jnp.maximum(jnp.sum(mask), 1).astype(values.dtype)


@cache
def program(case):
    """(floating inputs, other inputs, numbers, where) -> ((mean, values), gradients): nearly all tests share it."""
    _, static = split_numbers(case, jnp.float32)

    def function(floating, others, numbers, where):
        mask = {"where": where} if case.couples else {}
        values = case.loss(**floating, **others, **numbers, **static, **mask)
        return mean(values, where), values

    return jax.jit(jax.value_and_grad(function, has_aux=True))


def run(case, inputs, where=None):
    """The mean, the values, and the gradients by the floating inputs; in the inputs' own precision."""
    floating = {k: x for k, x in inputs.items() if k in case.floating}
    others = {k: x for k, x in inputs.items() if k not in case.floating}
    wide = any(x.dtype == jnp.float64 for x in jax.tree.leaves(floating))
    numbers, _ = split_numbers(case, jnp.float64 if wide else jnp.float32)
    if where is None:  # the same program with and without a mask
        where = jnp.ones(len(jax.tree.leaves(inputs[next(iter(case.inputs))])[0]), bool)
    (value, values), gradients = program(case)(floating, others, numbers, where)
    return value, values, gradients


def by_rows(case, function, inputs):
    """The inputs with `function` of what has the batch's rows as its first axis."""
    return jax.tree.map(lambda x: function(x) if np.ndim(x) and len(x) == case.rows else x, inputs)


def with_student(case, inputs, change):
    """The inputs with every array of the student (or of the only model) changed."""
    name = next(iter(case.inputs))
    return inputs | {name: jax.tree.map(change, inputs[name])}


def finite(tree):
    return all(np.isfinite(x).all() for x in jax.tree.leaves(jax.device_get(tree)))


def zero(tree):
    return all((x == 0).all() for x in jax.tree.leaves(jax.device_get(tree)))


def largest(tree):
    return max(float(np.abs(x).max()) for x in jax.tree.leaves(jax.device_get(tree)))


def close(ours, theirs, rtol, atol=0.0):
    """The same over all leaves."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), ours, theirs)
