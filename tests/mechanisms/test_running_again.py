"""Objectives that run the models again: an attack, an interchange, a rollout. Each is shown to do what it says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import losses, methods
from mmkd_jax.adversarial import PGD
from mmkd_jax.core.model import StepContext, plain
from mmkd_jax.core.objective import combine, stateless
from mmkd_jax.core.outputs import forward
from mmkd_jax.core.state import variables
from tests.small import (
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


def first_outputs(distillation, state, frozen, batch):
    """The outputs of the first step."""
    ctx = StepContext(state.step, jax.random.fold_in(state.key, state.step))
    return forward(distillation.models, variables(state, frozen), batch, ctx, distillation.trained)[0]


@pytest.mark.slow
def test_an_attacked_student():
    eps = 0.1
    attack = methods.rslad("image", attack=PGD(eps=eps, step_size=0.05, steps=3, low=None, high=None))
    models = {"teacher": net(6, batch_norm=True), "student": net(8)}
    distillation = distil(models, combine(task=task(), robust=attack))
    step, (state, frozen) = stepper(distillation), initialize(distillation)
    before = jax.tree.map(np.array, frozen)
    last, values, terms = advance(step, state, frozen, make_batches())
    assert np.all(terms["robust.attacked"] > terms["robust.clean"] * 1.05)
    assert equal(frozen, before)

    # without a radius there is no attack, and another student comes out
    tame = set_hyperparams(state, {"robust.attack.eps": 0.0})
    other, tamed, terms = advance(step, tame, frozen, make_batches())
    np.testing.assert_allclose(terms["robust.attacked"], terms["robust.clean"], rtol=1e-5)
    assert np.abs(tamed - values).max() > 1e-3 and gap(last.params, other.params) > 1e-3

    # what the student is shown lies within the radius and nearly at its edge
    batch, seen = on_device(make_batch()), []
    outputs = first_outputs(distillation, state, frozen, batch)
    run = outputs.run["student"]

    def spy(shown, **options):
        seen.append(shown["image"])
        return run(shown, **options)

    training = attack.apply(
        state.params["objective"]["robust"],
        state.objective_state["robust"],
        dataclasses.replace(outputs, run={"student": spy}),
    )
    shift = np.abs(np.asarray(seen[-1]) - batch["image"])
    assert shift.max() <= eps + 1e-6 and shift.mean() > eps / 2
    worse = losses.kl(run({**batch, "image": seen[-1]})["logits"], outputs["teacher.logits"])
    np.testing.assert_allclose(training[0]["attacked"].values, worse, rtol=1e-5)


@pytest.mark.slow
def test_an_interchange():
    swap = methods.interchange("features.image")
    models = {"teacher": net(6, "image", "audio"), "student": net(8, "image", "audio", dropout=0.3)}
    distillation = distil(models, combine(causal=swap, plain=soft(weight=0.0)))
    step, (state, frozen) = stepper(distillation), initialize(distillation)
    last, _values, terms = advance(step, state, frozen, make_batches())
    assert np.abs(terms["causal"] - terms["plain"]).mean() > 1e-2  # it is no plain KL
    assert equal(step(state, frozen, make_batch())[0].objective_state, state.objective_state)

    # plain KL in its place gives another student
    usual = set_hyperparams(state, {"causal.weight": 0.0, "plain.weight": 1.0})
    assert gap(advance(step, usual, frozen, make_batches())[0].params, last.params) > 1e-3

    # the image's features are another row's: their encoder learns through that row
    moved: dict[str, float] = {
        n: gap(state.params["student"][n], last.params["student"][n]) for n in state.params["student"]
    }
    assert min(moved["encoders_image"], moved["encoders_audio"], moved["Dense_0"]) > 1e-4


WORDS, LENGTH = 5, 6


def speaker(width, seed_scale=1.0):
    """Next-token logits from the token and all before it."""

    def init(key, batch):
        a, b = jax.random.split(key)
        return {
            "embed": seed_scale * jax.random.normal(a, (WORDS, width)),
            "out": jax.random.normal(b, (width, WORDS)),
        }

    def run(params, batch):
        x = params["embed"][batch["text.ids"]]
        return {"logits": jnp.tanh(jnp.cumsum(x, 1) / 2) @ params["out"]}

    return plain(run, init)


def rollout(outputs):
    """KL at every position of a text that the student itself has written (GKD, on-policy)."""
    batch, ids = outputs.batch, outputs["batch.text.ids"]
    keys = jax.vmap(lambda i: jax.random.fold_in(outputs.ctx.key, i))(batch["example_id"])

    def write(ids, place):
        logits = outputs.run["student"]({**batch, "text.ids": ids})["logits"][:, place]
        word = jax.vmap(lambda key, row: jax.random.categorical(jax.random.fold_in(key, place), row))(keys, logits)
        return ids.at[:, place + 1].set(word), None

    ids, _ = jax.lax.scan(write, ids, jnp.arange(LENGTH - 1))
    written = {**batch, "text.ids": jax.lax.stop_gradient(ids)}
    student, teacher = (outputs.run[n](written)["logits"] for n in ("student", "teacher"))
    return losses.kl(student, jax.lax.stop_gradient(teacher))


def texts(seed):
    batch = make_batch(seed)
    draw = np.random.default_rng(seed)
    return batch | {"text.ids": draw.integers(0, WORDS, (16, LENGTH)).astype(np.int32)}


def test_a_rollout_of_an_autoregressive_student():
    models = {"teacher": speaker(6, 2.0), "student": speaker(4, 2.0)}
    objective = combine(own=stateless(rollout), given=soft(weight=0.0))
    distillation = distil(models, objective)
    batches = [texts(0)] * 10
    step, (state, frozen) = stepper(distillation), initialize(distillation, batches[0])
    before = jax.tree.map(np.array, frozen)
    last, values, terms = advance(step, state, frozen, batches)
    assert np.abs(terms["own"] - terms["given"]).min() > 1e-3  # on its own text, not on the given one
    assert values[-3:].mean() < values[:3].mean()
    assert equal(frozen, before) and gap(state.params, last.params) > 1e-2

    # only the first word is read from the data: the rest is written
    other = batches[0]["text.ids"].copy()
    other[:, 1:] = (other[:, 1:] + 1) % WORDS
    there = step(state, frozen, batches[0] | {"text.ids": other})[1]["terms"]
    here = step(state, frozen, batches[0])[1]["terms"]
    assert here["own"][0] == there["own"][0] and here["given"][0] != there["given"][0]

    # the words come from the student: another student, or another key, writes another text
    def own(state):
        return float(step(state, frozen, batches[0])[1]["terms"]["own"][0])

    assert own(state) != own(state.replace(key=jax.random.key(5)))
    assert own(state) != own(state.replace(params=last.params))
