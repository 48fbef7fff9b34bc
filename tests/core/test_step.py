"""One step: accumulation is exact or refused, a population is many single runs, a donated state is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmkd_jax import losses, methods
from mmkd_jax.adversarial import PGD
from mmkd_jax.core.model import StepContext
from mmkd_jax.core.objective import combine, term
from mmkd_jax.core.sharding import compile_step, population
from mmkd_jax.core.state import init_state
from mmkd_jax.core.step import make_step
from mmkd_jax.errors import UserError
from mmkd_jax.nn.connectors import Linear
from tests.small import (
    CLASSES,
    advance,
    distil,
    equal,
    gap,
    initialize,
    make_batch,
    make_batches,
    net,
    on_device,
    set_hyperparams,
    soft,
    stepper,
    task,
)

OBJECTIVE = combine(
    task=task(where="labelled"),
    soft=soft(temperature=2, weight=optax.linear_schedule(1.0, 0.5, 10)),
    hint=term(
        losses.hint,
        student="student.embedding",
        teacher="teacher.embedding",
        connect={"student": Linear(6, batch_norm=True)},
    ),
    match=term(
        losses.info_nce,
        student="student.features.image",
        teacher="teacher.features.image",
        connect={"student": Linear(6)},
        where="present.audio",
    ),
    angle=term(losses.rkd_angle, student="student.embedding", teacher="teacher.embedding"),
    bank=methods.crd(64, width=4, negatives=8, temperature=0.5, weight=0.05),
)
MODELS = {"teacher": net(6, batch_norm=True), "student": net(8, dropout=0.4)}


@pytest.mark.full
def test_accumulation_is_the_full_batch():
    distillation = distil(MODELS, OBJECTIVE)
    state, frozen = initialize(distillation)
    full, expected, each = advance(stepper(distillation), state, frozen, make_batches())
    parts, values, terms = advance(stepper(distillation, 4), state, frozen, make_batches())
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    for name in each:
        assert np.abs(each[name]).min() > 1e-4
        np.testing.assert_allclose(terms[name], each[name], rtol=1e-5, atol=1e-7, err_msg=name)
    assert gap(parts.params, full.params) < 1e-5
    for here, there in zip(jax.tree.leaves(parts.objective_state), jax.tree.leaves(full.objective_state), strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-5)  # the bank's Z is in the hundreds
    for x, y in zip(jax.tree.leaves(state.params), jax.tree.leaves(full.params), strict=True):
        assert gap(x, y) > 1e-4  # every parameter has learned: of student, connectors and projections
    # dropout was there, and it takes its mask from the example: microbatches drop what the full batch drops
    dry = distil(MODELS | {"student": net(8)}, OBJECTIVE)
    assert np.abs(advance(stepper(dry), state, frozen, make_batches(1))[1] - expected[:1]).max() > 1e-3


@pytest.mark.full
def test_accumulation_refuses_what_it_would_change():
    normal = distil({"teacher": net(6), "student": net(8, batch_norm=True)}, combine(soft=soft()))
    state, frozen = initialize(normal)
    with pytest.raises(UserError, match=r"model student has batch statistics \(BatchNorm\)"):
        stepper(normal, 4)(state, frozen, make_batch())

    attack = methods.rslad("image", attack=PGD(steps=1, low=None, high=None))
    again = distil({"teacher": net(6), "student": net(8)}, combine(robust=attack))
    state, frozen = initialize(again)
    with pytest.raises(UserError, match="'robust'.*'student' is run again.*microbatches=1"):
        stepper(again, 4)(state, frozen, make_batch())

    simple = distil({"student": net(8)}, task())
    state, frozen = initialize(simple)
    with pytest.raises(UserError, match="14 rows does not divide into 4 microbatches"):
        stepper(simple, 4)(state, frozen, make_batch(rows=14))


def stack(trees):
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


def member(tree, i):
    return jax.tree.map(lambda x: x[i], tree)


def many(distillation, states, frozen, batches, frozen_axis=None, batch_axis=None):
    """Losses [steps, members] and the last states of a population."""
    step = jax.jit(population(make_step(distillation), frozen_axis, batch_axis))
    values = []
    for batch in batches:
        states, metrics = step(states, frozen, batch)
        values.append(np.asarray(metrics["loss"]))
    return states, np.stack(values)


@pytest.mark.slow
def test_a_population_of_seeds_is_as_many_single_runs():
    distillation = distil(MODELS | {"student": net(8, batch_norm=True, dropout=0.4)}, OBJECTIVE)
    step, seeds = stepper(distillation), range(8)
    spec = {k: jax.ShapeDtypeStruct(x.shape, x.dtype) for k, x in make_batch().items()}
    keys = jax.vmap(jax.random.key)(jnp.arange(8))
    states, frozen = jax.jit(jax.vmap(lambda key: init_state(distillation, spec, key)))(keys)
    data = [make_batches()[s:] + make_batches()[:s] for s in seeds]  # each in its own order
    last, values = many(distillation, states, frozen, [stack(b) for b in zip(*data, strict=True)], 0, 0)
    assert len(set(values[0].tolist())) == 8
    for i in seeds:
        single, expected, _ = advance(step, member(states, i), member(frozen, i), data[i])
        np.testing.assert_allclose(values[:, i], expected, rtol=1e-5)
        assert gap(member(last.params, i), single.params) < 1e-5


@pytest.mark.full
def test_a_population_of_temperatures_is_as_many_single_runs():
    distillation = distil(MODELS, combine(task=task(), soft=soft(temperature=1)))
    state, frozen = initialize(distillation)
    warm = [set_hyperparams(state, {"soft.temperature": t}) for t in (1.0, 2.0, 4.0, 8.0)]
    last, values = many(distillation, stack(warm), frozen, make_batches())
    step, ends = stepper(distillation), []
    for i, one in enumerate(warm):
        single, expected, _ = advance(step, one, frozen, make_batches())
        np.testing.assert_allclose(values[:, i], expected, rtol=1e-5)
        assert gap(member(last.params, i), single.params) < 1e-5
        ends.append(expected[-1])
    assert len(set(ends)) == 4


def test_the_step_counts_draws_anew_and_keeps_the_key():
    distillation = distil({"student": net(8, dropout=0.5)}, task())
    state, frozen = initialize(distillation)
    step, batch = stepper(distillation), make_batch()
    one, metrics = step(state, frozen, batch)
    two, same = step(state, frozen, batch)
    assert equal(one.params, two.params) and metrics["loss"] == same["loss"]
    assert int(one.step) == 1 and equal(jax.random.key_data(one.key), jax.random.key_data(state.key))
    later = step(state.replace(step=state.step + 1), frozen, batch)[1]["loss"]
    assert later != metrics["loss"]


def test_the_step_is_sgd_on_the_total_by_hand():
    distillation = distil({"student": net(8)}, task(weight=2.0), rate=0.1)
    state, frozen = initialize(distillation)
    batch = on_device(make_batch())

    def loss(params):
        outputs, _ = MODELS["student"].apply({"params": params}, batch, StepContext(0, state.key, False), {})
        logp = jax.nn.log_softmax(outputs["logits"])
        picked = jnp.sum(jax.nn.one_hot(batch["label"], CLASSES) * logp, -1)
        return -2 * jnp.sum(jnp.where(batch["valid"], picked, 0)) / batch["valid"].sum()

    value, gradient = jax.jit(jax.value_and_grad(loss))(state.params["student"])
    after, metrics = stepper(distillation)(state, frozen, batch)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-6)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, state.params["student"], gradient)
    assert gap(after.params["student"], expected) < 1e-6


def test_a_donated_state_is_refused():
    distillation = distil({"student": net(4)}, task())
    state, frozen = initialize(distillation)
    step = compile_step(make_step(distillation))
    after, _ = step(state, frozen, make_batch())
    with pytest.raises(UserError, match="use the state that step returned"):
        step(state, frozen, make_batch())
    assert int(step(after, frozen, make_batch())[0].step) == 2
