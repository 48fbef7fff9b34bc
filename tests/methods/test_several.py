"""Several teachers and students: the weights by hand, who is heard where, and whose gradient flows."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import losses, methods
from mmkd_jax.core.model import StepContext
from mmkd_jax.core.objective import total
from mmkd_jax.core.outputs import Outputs
from mmkd_jax.errors import UserError
from mmkd_jax.methods.structure.multi_teacher import weights
from tests.small import CLASSES, compiled

ROWS = 6
RNG = np.random.default_rng(0)
LOGITS = {n: RNG.normal(size=(ROWS, CLASSES)).astype(np.float32) for n in ("student", "one", "two", "three")}
THERE = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 1, 0], [1, 1, 1, 0, 0, 0]], bool)
LABELS = np.array([0, 1, 2, 0, 1, 2], np.int32)
NAMES = ("one", "two", "three")


def outputs(**changes):
    batch = {"label": LABELS, "example_id": np.arange(ROWS)} | {f"m{i}": THERE[i] for i in range(3)}
    outputs = {n: {"logits": jnp.asarray(x)} for n, x in (LOGITS | changes).items()}
    return Outputs(jax.tree.map(jnp.asarray, batch), outputs, {}, StepContext(jnp.int32(0), jax.random.key(0)))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def by_hand(by):
    p = {n: softmax(LOGITS[n].astype(float)) for n in NAMES}
    found = np.zeros((3, ROWS))
    for i in range(ROWS):
        here = [k for k in range(3) if THERE[k, i]]
        mine = [p[NAMES[k]][i] for k in here]
        if by == "mean":
            w = np.ones(len(here)) / max(len(here), 1)
        elif by == "confidence":
            e = np.array([1 / q[LABELS[i]] for q in mine])
            w = (1 - e / e.sum()) / (len(here) - 1) if len(here) > 1 else np.ones(len(here))
        elif by == "entropy":
            w = np.exp([np.sum(q * np.log(q)) for q in mine])
            w = w / w.sum()
        else:
            mean = np.mean(mine, 0) if here else 0
            w = np.exp([-np.sum(q * np.log(q / mean)) for q in mine])
            w = w / w.sum()
        found[here, i] = w
    return found


@pytest.mark.slow
@pytest.mark.parametrize("by", ["mean", "confidence", "entropy", "agreement"])
def test_weights_and_value(by):
    expected = by_hand(by)
    ours = weights(jnp.stack([LOGITS[n] for n in NAMES]), jnp.asarray(THERE), by, jnp.asarray(LABELS))
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    np.testing.assert_allclose(expected.sum(0), THERE.any(0))
    method = methods.multi_teacher({n: f"m{i}" for i, n in enumerate(NAMES)}, by=by, temperature=2.0)
    params, state = compiled(method).init(outputs())

    def value(logits):
        return total(compiled(method).apply(params, state, outputs(**logits))[0])[0]

    each = np.stack([losses.kl(jnp.asarray(LOGITS["student"]), jnp.asarray(LOGITS[n]), temperature=2.0) for n in NAMES])
    heard = THERE.any(0)
    assert float(value({})) == pytest.approx((expected * each).sum(0)[heard].mean(), rel=1e-5)
    slopes = jax.grad(value)({n: jnp.asarray(x) for n, x in LOGITS.items()})
    assert np.abs(slopes["student"]).max() > 1e-3 and not any(np.any(slopes[n]) for n in NAMES)
    assert not np.any(slopes["student"][~heard])


def test_equal_weights_have_the_gradient_of_the_mean_teacher():
    method = methods.multi_teacher(NAMES)
    params, state = compiled(method).init(outputs())
    mean = jnp.log(sum(jax.nn.softmax(jnp.asarray(LOGITS[n])) for n in NAMES) / 3)
    ours = jax.grad(lambda s: total(compiled(method).apply(params, state, outputs(student=s))[0])[0])
    one = jax.grad(lambda s: jnp.mean(losses.kl(s, mean)))
    np.testing.assert_allclose(ours(jnp.asarray(LOGITS["student"])), one(jnp.asarray(LOGITS["student"])), atol=1e-6)


def test_students_teach_one_another_with_equal_shares():
    method = methods.dml(*NAMES, weight=0.6)
    params, state = compiled(method).init(outputs())
    value, metrics = total(compiled(method).apply(params, state, outputs())[0])
    at = {n: jnp.asarray(LOGITS[n]) for n in NAMES}
    expected = sum(float(jnp.mean(losses.cross_entropy(x, jnp.asarray(LABELS)))) for x in at.values())
    pairs = [float(jnp.mean(losses.kl(at[a], at[b]))) for a in NAMES for b in NAMES if a != b]
    assert float(value) == pytest.approx(expected + 0.3 * sum(pairs), rel=1e-5) and len(metrics) == 3 + 6
    with pytest.raises(UserError, match="at least two models"):
        methods.dml("one")


def test_a_mask_that_the_batch_lacks_is_named():
    with pytest.raises(UserError, match="'one' uses the mask 'present.touch', which is not in the batch"):
        methods.multi_teacher({"one": "present.touch"}).init(outputs())


def test_the_consistency_of_a_mean_teacher_goes_up_as_in_the_paper():
    at = {"student": "one.logits", "teacher": "two.logits"}
    ramped, flat = methods.mean_teacher(**at, weight=2.0, ramp=10), methods.mean_teacher(**at)
    full = float(total(compiled(flat).apply(*compiled(flat).init(outputs()), outputs())[0])[0])
    p, q = (softmax(LOGITS[n].astype(float)) for n in ("one", "two"))
    assert full == pytest.approx(float(((p - q) ** 2).mean()), rel=1e-5)
    for step in (0, 3, 10, 25):
        now = dataclasses.replace(outputs(), ctx=StepContext(jnp.int32(step), jax.random.key(0)))
        value = float(total(compiled(ramped).apply(*compiled(ramped).init(now), now)[0])[0])
        assert value == pytest.approx(2 * full * np.exp(-5 * (1 - min(step / 10, 1)) ** 2), rel=1e-5)
    refused: list[dict[str, Any]] = [{"ramp": -1}, {"ramp": 5, "weight": lambda step: 1.0}]
    for wrong in refused:
        with pytest.raises(UserError, match="ramp is"):
            methods.mean_teacher(**at, **wrong)


def test_a_teacher_that_rules_the_label_out_is_not_trusted():
    from mmkd_jax.methods.structure.multi_teacher import weights

    sure, other = jnp.array([[-jnp.inf, 0.0, 1.0]]), jnp.array([[1.0, 0.0, 0.0]])
    there, label = jnp.ones((2, 1), bool), jnp.array([0])
    np.testing.assert_allclose(weights(jnp.stack([sure, other]), there, "confidence", label)[:, 0], [0, 1])
    three = jnp.stack([sure, sure, other])
    np.testing.assert_allclose(weights(three, jnp.ones((3, 1), bool), "confidence", label)[:, 0], [0.25, 0.25, 0.5])
