"""Logic rules: the projection by hand, its limits, and what is refused."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import methods
from mmkd_jax.core import soft_logic
from mmkd_jax.core.objective import total
from mmkd_jax.errors import UserError
from tests.methods.test_several import LABELS, LOGITS, ROWS, outputs

RNG = np.random.default_rng(1)
FIRST, SECOND = (RNG.random((ROWS, 3)).astype(np.float32) for _ in range(2))
RULES = {"first": (lambda outputs: jnp.asarray(FIRST), 0.5), "second": (lambda outputs: jnp.asarray(SECOND), 2.0)}


def terms(method, logits=None):
    seen = outputs(**({} if logits is None else {"student": logits}))
    return method.apply(*method.init(seen), seen)[0]


def test_the_projection_by_hand_and_no_gradient_through_it():
    method = methods.logic_rules(RULES, imitation=0.3, strength=4.0)
    s = LOGITS["student"].astype(float)
    p = np.exp(s) / np.exp(s).sum(-1, keepdims=True)
    q = p * np.exp(-4 * (0.5 * (1 - FIRST) + 2.0 * (1 - SECOND)))
    q /= q.sum(-1, keepdims=True)
    imitated, data = (q * np.log(q / p)).sum(-1), -np.log(p[np.arange(ROWS), LABELS])
    found = terms(method)
    np.testing.assert_allclose(found["rules"].values, imitated, rtol=1e-4)
    assert float(total(found)[0]) == pytest.approx((0.7 * data + 0.3 * imitated).mean(), rel=1e-5)
    slope = jax.grad(lambda s: total(terms(methods.logic_rules(RULES, imitation=1.0, strength=4.0), s)["rules"])[0])
    # q stands still: the gradient of the KL is p − q
    np.testing.assert_allclose(slope(jnp.asarray(LOGITS["student"])), (p - q) / ROWS, atol=1e-6)


def test_rules_that_hold_everywhere_ask_for_nothing_and_hard_ones_for_all():
    true = {"all": (lambda outputs: jnp.ones((1, 3)), 1.0)}
    assert np.abs(terms(methods.logic_rules(true))["rules"].values).max() < 1e-6
    only = {"second": (lambda outputs: jnp.array([[0.0, 1.0, 0.0]]), 1.0)}
    hard = terms(methods.logic_rules(only, strength=1e3))["rules"].values
    s = LOGITS["student"]
    np.testing.assert_allclose(hard, np.log(np.exp(s).sum(-1)) - s[:, 1], rtol=1e-5)


def test_connectives_are_the_tables_of_truth_and_lukasiewicz_between():
    for a, b in itertools.product((0.0, 1.0), repeat=2):
        assert bool(soft_logic.both(a, b)) == bool(a and b) and bool(soft_logic.either(a, b)) == bool(a or b)
        assert bool(soft_logic.implies(a, b)) == (not a or bool(b))
    a, b = jnp.asarray(RNG.random((2, 50)), jnp.float32)
    np.testing.assert_allclose(soft_logic.implies(a, b), soft_logic.either(soft_logic.negation(a), b), atol=1e-6)
    np.testing.assert_allclose(soft_logic.negation(soft_logic.both(a, b)), soft_logic.either(1 - a, 1 - b), atol=1e-6)


def test_a_rule_of_another_shape_is_refused():
    with pytest.raises(UserError, match=r"rule 'short' returns \[6\]; expected a truth value for each row and class"):
        methods.logic_rules({"short": (lambda outputs: jnp.ones(ROWS), 1.0)}).init(outputs())
    with pytest.raises(UserError, match="rules is empty"):
        methods.logic_rules({})


def test_penalties_are_not_rounded_to_a_narrow_students_precision():
    narrow = jnp.asarray(LOGITS["student"], jnp.bfloat16)
    ours, wide = (terms(methods.logic_rules(RULES), x)["rules"].values for x in (narrow, narrow.astype(jnp.float32)))
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, wide, rtol=1e-6)
