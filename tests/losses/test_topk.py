"""Losses that take a record of a teacher's largest logits in the place of all of them."""

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import losses
from mmkd_jax.core.model import StepContext, plain
from mmkd_jax.core.objective import term, total
from mmkd_jax.core.outputs import forward
from mmkd_jax.errors import UserError
from tests.losses.harness import close, finite

CLASSES = 6


def logits(seed, dtype=jnp.float32, scale=1.0):
    return jnp.asarray(scale * np.random.default_rng(seed).normal(size=(2, 3, CLASSES)), dtype)


topk = jax.jit(losses.topk, static_argnums=1)  # as one program: operation by operation it takes longer to compile


@partial(jax.jit, static_argnums=2)
def kl(s, t, temperature):
    return losses.kl(s, t, temperature=temperature)


@partial(jax.jit, static_argnums=2)
def jsd(s, t, temperature):
    return losses.jsd(s, t, temperature=temperature, beta=0.3)


@partial(jax.jit, static_argnums=2)
def soft(s, t, temperature):
    """Only at T = 1: labels have no temperature."""
    labels: Any = t if isinstance(t, tuple) else jax.nn.softmax(t)
    return losses.cross_entropy(s, labels, label_smoothing=0.1)


LOSSES = pytest.mark.parametrize(
    ("loss", "temperature"), [(kl, 3.0), (jsd, 3.0), (soft, 1.0)], ids=("kl", "jsd", "soft")
)


@partial(jax.jit, static_argnums=(0, 3))
def sum_and_slope(loss, s, t, temperature):
    values, pull = jax.vjp(lambda s: loss(s, t, temperature), s)
    return values, pull(jnp.ones_like(values))[0]


@LOSSES
def test_all_classes_are_the_full_loss(loss, temperature):
    with jax.enable_x64(True):
        s, t = logits(0, jnp.float64), logits(1, jnp.float64)
        record = topk(t, CLASSES, temperature=temperature)
        assert bool((record.tail == -jnp.inf).all())
        full = sum_and_slope(loss, s, t, temperature)
        close(sum_and_slope(loss, s, record, temperature), full, 1e-12, 1e-14)
        close(sum_and_slope(loss, s, tuple(record), temperature), full, 1e-12, 1e-14)


@pytest.mark.slow
@LOSSES
def test_fewer_classes_are_a_lower_bound_that_rises_with_them(loss, temperature):
    s, t = logits(0), logits(1)
    bounds = [loss(s, topk(t, k, temperature=temperature), temperature) for k in range(1, CLASSES + 1)]
    bounds = jax.device_get(bounds)
    assert all((a <= b + 1e-6).all() for a, b in itertools.pairwise(bounds))
    assert np.min(bounds[-1] - bounds[0]) > 1e-3 and (bounds[0] >= 0).all()


def test_the_buckets_by_hand():
    """e^t = (2, 1, 1): half for the rest; the student's e^s = (1, 1, 2): three quarters for it."""
    record = losses.topk(jnp.log(jnp.array([[2.0, 1.0, 1.0]])), 1)
    close(tuple(record), (np.log([[2.0]]), np.array([[0]]), np.log([4.0]), np.log([0.5])), 1e-6)
    s = jnp.log(jnp.array([[1.0, 1.0, 2.0]]))
    close(losses.kl(s, record), jnp.array([0.5 * np.log(2) + 0.5 * np.log(2 / 3)]), 1e-6)
    close(losses.cross_entropy(s, record), jnp.array([0.5 * np.log(4) + 0.5 * np.log(4 / 3)]), 1e-6)


@pytest.mark.slow
@LOSSES
def test_a_tail_that_underflows_keeps_value_and_gradient(loss, temperature):
    """1 − Σ would be 0 there."""
    for scale in (1e2, 1e4):
        s, t = (np.sign(logits(i)) * np.float32(scale) for i in (0, 1))
        for k in (1, 3, CLASSES):
            assert finite(sum_and_slope(loss, s, topk(t, k, temperature=temperature), temperature))
    s = jnp.array([[100.0, 0.0, -10.0]])  # the student has e⁻¹⁰⁰ where the teacher has nearly all
    _, slope = sum_and_slope(kl, s, topk(jnp.array([[0.0, 20.0, 0.0]]), 1), 1.0)
    close(slope, jnp.array([[1.0, -1.0, 0.0]]), 1e-4, 1e-4)
    close(np.sum(slope, -1), np.zeros(1), 0, 1e-6)


def test_removed_classes():
    """Fewer than k classes left: they are no class of the record."""
    s, t = (np.where(np.arange(CLASSES) < 3, x, np.float32(-np.inf)) for x in (logits(0), logits(1)))
    record = topk(t, 4)
    found = sum_and_slope(kl, s, record, 1.0)
    assert finite(found)
    close(found, sum_and_slope(kl, s, t, 1.0), 1e-5, 1e-6)


def test_small_dtypes_are_read_as_they_were_kept():
    s, t = logits(0), logits(1)
    record = topk(t, 3, temperature=2.0)
    small = record._replace(values=record.values.astype(jnp.float16), indices=record.indices.astype(jnp.uint16))
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        close(kl(s, small, 2.0), kl(s, record, 2.0), 1e-2, 1e-3)
        every = jax.jit(partial(losses.topk_kl, k=3, temperature=2.0, tail=True))(s, t)
        close(every, kl(s, record, 2.0), 1e-6)


def test_topk_kl_of_all_classes_is_kl():
    s, t = logits(0), logits(1)
    for tail in (False, True):
        found = jax.jit(partial(losses.topk_kl, k=CLASSES, temperature=2.0, tail=tail))(s, t)
        close(found, kl(s, t, 2.0), 1e-5, 1e-6)


S = logits(0)
RECORD: Any = losses.topk(logits(1), 2)  # Any: that a loss refuses it is what is tested
REFUSED = {
    "dkd: teacher is a TopK \\(values, indices, lse, tail\\); expected float": lambda: losses.dkd(
        S, RECORD, jnp.zeros((2, 3), int)
    ),
    "reverse_kl: teacher is a TopK": lambda: losses.reverse_kl(S, RECORD),
    # pyrefly: ignore[bad-argument-type]
    "logit_mse: teacher is a tuple of 4": lambda: losses.logit_mse(S, tuple(RECORD)),
    "kl: teacher is a tuple of 2; expected an array or a TopK": lambda: losses.kl(S, RECORD[:2]),
    "kl: teacher.indices is float32": lambda: losses.kl(S, RECORD._replace(indices=RECORD.values)),
    "kl: teacher.values is .* but n is .* in student": lambda: losses.kl(S[:1], RECORD),
    "topk: k is 7; expected 1 … 6": lambda: losses.topk(S, 7),
    "k is 0": lambda: losses.topk_kl(S, S, k=0),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_no_record_or_cannot_be_one_is_refused(message):
    with pytest.raises(UserError, match=message):
        REFUSED[message]()


def outputs(params):
    """A student's logits; of the teacher's the record, whole and field by field."""
    record = losses.topk(logits(1), 3, temperature=2.0)
    fields = {f"logits.{k}": v for k, v in record._asdict().items()}
    models = {"student": plain(lambda p, batch: p), "teacher": plain(lambda p, batch: {"logits": record} | fields)}
    return forward(
        models, {"student": {"params": params}, "teacher": {"params": {}}}, {}, StepContext(0, jax.random.key(0))
    )[0]


@pytest.mark.parametrize("path", ["teacher.logits", tuple(f"teacher.logits.{k}" for k in losses.TopK._fields)])
def test_a_record_travels_through_a_term(path):
    objective = term(losses.kl, student="student.logits", teacher=path, temperature=2.0)

    def value(params):
        seen = outputs(params)
        return total(objective.apply(*objective.init(seen), seen)[0])[0]

    found, slope = jax.jit(jax.value_and_grad(value))({"logits": logits(0)})
    close(found, jnp.mean(kl(logits(0), losses.topk(logits(1), 3, temperature=2.0), 2.0)), 1e-5)
    assert float(jnp.abs(slope["logits"]).max()) > 1e-3


def test_a_term_refuses_it_by_name():
    objective = term(losses.logit_mse, student="student.logits", teacher="teacher.logits")
    seen = outputs({"logits": logits(0)})
    with pytest.raises(UserError, match="logit_mse: teacher is a TopK"):
        objective.apply(*objective.init(seen), seen)
