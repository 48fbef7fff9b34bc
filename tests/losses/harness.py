"""What the tests of the contract share: which rows a clause is about, and a loss reduced and differentiated."""

from functools import cache

import jax
import jax.numpy as jnp
import pytest

from .cases import CASES

every = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def only(chosen):
    """The rows to which a clause applies."""
    some = {name: case for name, case in CASES.items() if chosen(case)}
    return pytest.mark.parametrize("case", some.values(), ids=some.keys())


coupled = only(lambda case: case.couples)
of_logits = only(lambda case: case.logits)
of_rows = only(lambda case: not case.logits)


def arrays(inputs, dtype=None):
    """Inputs as JAX arrays, the floating ones as `dtype`."""
    return {k: jnp.asarray(x, dtype if x.dtype.kind == "f" else None) for k, x in inputs.items()}


def hyper(case, dtype=jnp.float32):
    """Hyperparameters, the numbers as arrays."""
    return {k: jnp.asarray(v, dtype) if k in case.numbers else v for k, v in case.hyper.items()}


def mean(case, inputs, where=None):
    """Over the rows that count, as an objective takes it."""
    numbers = hyper(case, jnp.float64 if inputs[case.floating[0]].dtype == jnp.float64 else jnp.float32)
    if where is None:
        return jnp.mean(case.loss(**inputs, **numbers))
    values = case.loss(**inputs, **numbers, where=where)
    return jnp.sum(jnp.where(where, values, 0)) / jnp.maximum(jnp.sum(where), 1).astype(values.dtype)


@cache
def compiled(case):
    """The mean and its gradients by the floating inputs; one function a row, so that tests share what is compiled."""

    def function(floating, others, where):
        return mean(case, floating | others, where)

    return jax.jit(jax.value_and_grad(function))


def value_and_gradients(case, inputs, where=None):
    floating = {k: x for k, x in inputs.items() if k in case.floating}
    others = {k: x for k, x in inputs.items() if k not in case.floating}
    return compiled(case)(floating, others, where)


def finite(tree):
    return all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(tree))


def zero(tree):
    return all(bool((x == 0).all()) for x in jax.tree.leaves(tree))
