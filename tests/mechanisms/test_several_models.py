"""More than one student and one fixed teacher. Each mechanism is shown to do what it says."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmkd_jax import losses, methods
from mmkd_jax.core.ensemble import ensemble
from mmkd_jax.core.model import cached
from mmkd_jax.core.objective import Objective, Term, combine, stateless, term
from mmkd_jax.errors import UserError
from mmkd_jax.training.teacher_outputs import compute
from tests.small import (
    advance,
    distil,
    equal,
    gap,
    initialize,
    make_batch,
    make_batches,
    net,
    set_hyperparams,
    soft,
    stepper,
    task,
)


def test_mutual_learning():
    models = {"one": net(8, batch_norm=True), "two": net(6, dropout=0.3)}
    objective = combine(first=task("one"), second=task("two"), to_one=soft("one", "two"), to_two=soft("two", "one"))
    distillation = distil(models, objective, trained=("one", "two"))
    step, (state, frozen) = stepper(distillation), initialize(distillation)
    assert not frozen
    together, _, terms = advance(step, state, frozen, make_batches())
    assert terms["to_one"].min() > 1e-4 and terms["to_two"].min() > 1e-4

    # without what they tell each other, both end elsewhere
    alone = set_hyperparams(state, {"to_one.weight": 0.0, "to_two.weight": 0.0})
    alone = advance(step, alone, frozen, make_batches())[0]
    assert all(gap(together.params[n], alone.params[n]) > 1e-3 for n in models)

    # who teaches gets no gradient: with one term only, one learns and the other stays as it was, bit for bit
    off = {f"{n}.weight": 0.0 for n in ("first", "second", "to_two")}
    taught = advance(step, set_hyperparams(state, off), frozen, make_batches())[0]
    assert equal(taught.params["two"], state.params["two"])
    assert gap(taught.params["one"], state.params["one"]) > 1e-3


@jax.custom_vjp
def reverse(x):
    return x


reverse.defvjp(lambda x: (x, None), lambda _, g: (jax.tree.map(jnp.negative, g),))


def fool(turn=reverse):
    """A discriminator tells student embeddings from the teacher's; the student's gradient is turned round."""
    judge = nn.Dense(1)

    def init(outputs):
        return {"judge": judge.init(outputs.ctx.key, outputs["student.embedding"])["params"]}, {}

    def apply(params, state, outputs):
        def says(x):
            logits: Any = judge.apply({"params": params["judge"]}, x)
            return logits[:, 0]

        real, fake = says(jax.lax.stop_gradient(outputs["teacher.embedding"])), says(turn(outputs["student.embedding"]))
        return Term(jax.nn.softplus(-real) + jax.nn.softplus(fake), outputs["batch.valid"]), state

    return Objective(init, apply)


def labels(params):
    return {n: {k: k for k in p} if n == "objective" else "models" for n, p in params.items()}


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_a_discriminator_with_its_own_optimizer(rate):
    optimizer = optax.partition({"models": optax.sgd(0.1), "fool": optax.sgd(rate), "task": optax.sgd(0.0)}, labels)
    models = {"teacher": net(8), "student": net(8)}

    def first(training):
        distillation = distil(models, combine(task=task(weight=0.0), fool=training), optimizer=optimizer)
        state, frozen = initialize(distillation)
        step = stepper(distillation)
        return state, step(state, frozen, make_batch())[0], lambda: advance(step, state, frozen, make_batches())

    state, turned, run = first(fool())
    _, straight, _ = first(fool(lambda x: x))
    there = jax.tree.map(lambda a, b: a - b, turned.params["student"], state.params["student"])
    back = jax.tree.map(lambda a, b: b - a, straight.params["student"], state.params["student"])
    assert gap(there, back) < 1e-7 < 1e-3 < gap(there, jax.tree.map(jnp.zeros_like, there))
    # the discriminator itself goes downhill in both, at its own rate: at 0 it stays as it was
    assert equal(turned.params["objective"], straight.params["objective"])
    assert equal(turned.params["objective"], state.params["objective"]) == (rate == 0)

    last, _, terms = run()
    assert terms["fool"].min() > 0.1 and gap(last.params["student"], state.params["student"]) > 1e-3


def test_two_teachers():
    teachers = {"image_teacher": net(6, batch_norm=True), "audio_teacher": net(4)}
    models = {**teachers, "student": net(8)}
    both = combine(image=soft(teacher="image_teacher"), audio=soft(teacher="audio_teacher"))
    distillation = distil(models, both)
    step, (state, frozen) = stepper(distillation), initialize(distillation)
    before = jax.tree.map(np.array, frozen)
    last, values, terms = advance(step, state, frozen, make_batches())
    np.testing.assert_allclose(values, terms["image"] + terms["audio"], rtol=1e-6)
    assert np.abs(terms["image"] - terms["audio"]).min() > 1e-4 and equal(frozen, before)
    for name in ("image", "audio"):  # taking either away gives another student
        without = set_hyperparams(state, {f"{name}.weight": 0.0})
        assert gap(advance(step, without, frozen, make_batches())[0].params, last.params) > 1e-3


@pytest.mark.full
def test_an_ensemble_of_teachers():
    teachers = {"one": net(6, batch_norm=True), "two": net(4)}

    def by_hand(outputs):
        mean = 0.75 * outputs["one.logits"] + 0.25 * outputs["two.logits"]
        return losses.kl(outputs["student.logits"], jax.lax.stop_gradient(mean))

    apart = distil({**teachers, "student": net(8)}, combine(soft=stateless(by_hand)))
    state, frozen = initialize(apart)
    _, expected, _ = advance(stepper(apart), state, frozen, make_batches())

    together = distil(
        {"teacher": ensemble(teachers, {"one": 3.0, "two": 1.0}), "student": net(8)}, combine(soft=soft())
    )
    state, ensembled = initialize(together, variables={"teacher": dict(frozen)})
    before = jax.tree.map(np.array, ensembled)
    _, values, _ = advance(stepper(together), state, ensembled, make_batches())
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    assert equal(ensembled, before)

    equally = distil({"teacher": ensemble(teachers), "student": net(8)}, combine(soft=soft()))
    _, others, _ = advance(stepper(equally), state, ensembled, make_batches())
    assert np.abs(others - expected).min() > 1e-5


@pytest.mark.full
def test_a_cached_teacher():
    teacher, batches = net(6, batch_norm=True), make_batches()
    online = distil({"teacher": teacher, "student": net(8, dropout=0.3)}, combine(task=task(), soft=soft()))
    state, frozen = initialize(online)
    last, expected, _ = advance(stepper(online), state, frozen, batches)

    key = jax.random.key(3)
    every = [{**b, "valid": np.ones_like(b["valid"])} for b in batches]
    kept = compute(teacher, frozen["teacher"], every, ["logits"], key)["logits"]
    assert kept.shape == (160, 3) and compute(teacher, frozen["teacher"], batches, ["logits"], key)["logits"].shape == (
        sum(b["valid"].sum() for b in batches),
        3,
    )
    told = [b | {"teacher.logits": kept[16 * i : 16 * i + 16]} for i, b in enumerate(batches)]
    stored = online._replace(models={"teacher": cached("teacher"), "student": net(8, dropout=0.3)})
    fresh, nothing = initialize(stored, told[0])
    assert nothing == {"teacher": {}} and equal(fresh.params, state.params)
    after, values, _ = advance(stepper(stored), fresh, nothing, told)
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    assert gap(after.params, last.params) < 1e-6

    # it is the teacher's word that is read, from the batch
    lies = [b | {"teacher.logits": -b["teacher.logits"]} for b in told]
    assert np.abs(advance(stepper(stored), fresh, nothing, lies)[1] - expected).mean() > 1e-2

    with pytest.raises(UserError, match="'causal'.*'teacher' is cached and cannot be run on another input"):
        initialize(stored._replace(objective=combine(causal=methods.interchange("features.image"))), told[0])
    with pytest.raises(UserError, match="'teacher' is cached, but the batch has no teacher"):
        initialize(stored, batches[0])
    with pytest.raises(UserError, match="no 'embedding'; it has: logits"):
        initialize(
            stored._replace(objective=term(losses.hint, student="student.embedding", teacher="teacher.embedding")),
            told[0],
        )


@pytest.mark.full
def test_a_teacher_that_is_the_students_moving_average():
    student, decay = net(8, batch_norm=True), 0.8
    models = {"student": student, "teacher": student}
    distillation = distil(models, combine(task=task(), soft=soft()), ema={"teacher": ("student", decay)})
    step, (state, frozen) = stepper(distillation), initialize(distillation)
    assert not frozen and equal(state.ema["teacher"]["params"], state.params["student"])

    now, mean = state, state.ema["teacher"]
    for batch in make_batches():
        now, _ = step(now, frozen, batch)
        current = {"params": now.params["student"], **now.model_state["student"]}
        mean = jax.tree.map(lambda m, x: decay * m + (1 - decay) * x, mean, current)
        assert gap(now.ema["teacher"], mean) < 1e-5
    assert "batch_stats" in mean and gap(now.ema["teacher"]["params"], now.params["student"]) > 1e-3

    # the average is what the student is pulled to: with another one it ends elsewhere
    other = state.replace(ema=jax.tree.map(lambda x: 1.5 * x, state.ema))
    assert gap(advance(step, other, frozen, make_batches())[0].params, now.params) > 1e-3
    # and it takes part in neither gradient nor optimizer
    assert set(now.params) == {"student", "objective"}

    still = distil({"student": net(8), "teacher": net(8)}, combine(task=task(), soft=soft()), ema=distillation.ema)
    state, _ = initialize(still)
    _, _, terms = advance(stepper(still), state, {}, make_batches())
    assert abs(terms["soft"][0]) < 1e-6 < 1e-4 < terms["soft"][-1]  # without BatchNorm both start as one
