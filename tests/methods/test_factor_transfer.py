"""Factor transfer: first the paraphraser alone, then the student, with the paraphraser frozen whatever happens."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmkd_jax.core.hyperparams import hyperparams_of
from mmkd_jax.core.objective import combine, total
from mmkd_jax.methods import factor_transfer
from tests.methods.trained import MAPS, MODELS, first_outputs, gradients
from tests.small import (
    advance,
    compiled,
    distil,
    equal,
    gap,
    initialize,
    make_batch,
    make_batches,
    set_hyperparams,
    stepper,
    task,
)

pytestmark = pytest.mark.usefixtures("strict")
FIRST = 4
METHOD = factor_transfer(**MAPS, paraphrase_steps=FIRST, weight=0.5)


def parts(state):
    return state.params["objective"]["own"], state.objective_state["own"]["frozen"]


@pytest.mark.slow
def test_two_stages():
    optimizer = optax.adamw(1e-2, weight_decay=1e-2)  # it moves parameters without a gradient, too
    distillation = distil(MODELS, combine(task=task(weight=0.0), own=METHOD), optimizer=optimizer)
    step, (state, frozen) = stepper(distillation), initialize(distillation)
    before, batches = jax.tree.map(np.array, frozen), make_batches()
    half, _, first = advance(step, state, frozen, batches[:FIRST])
    assert first["own.reconstruction"][-1] < first["own.reconstruction"][0]
    for name in ("paraphraser", "decoder"):
        for x, y in zip(*(jax.tree.leaves(parts(s)[0][name]) for s in (state, half)), strict=True):
            assert not np.array_equal(x, y)

    after, _, _ = advance(step, half, frozen, batches[FIRST : FIRST + 1])
    assert equal(parts(after)[1], parts(half)[0]["paraphraser"])  # as it was when its steps were over
    last, _, _ = advance(step, after, frozen, batches[FIRST + 1 :])
    assert equal(parts(last)[1], parts(after)[1])  # bit for bit, although …
    assert gap(parts(last)[0]["paraphraser"], parts(after)[0]["paraphraser"]) > 1e-6
    assert gap(parts(last)[0]["translator"], parts(half)[0]["translator"]) > 1e-3
    assert equal(frozen, before)


@pytest.mark.slow
def test_the_student_hears_nothing_while_the_paraphraser_learns():
    distillation = distil(MODELS, combine(task=task(), own=METHOD))
    step, (state, frozen) = stepper(distillation), initialize(distillation)
    silent = set_hyperparams(state, {"own.factor.weight": 0.0})

    def student(state, at):
        return step(state.replace(step=jnp.int32(at)), frozen, make_batch())[0].params["student"]

    assert equal(student(state, FIRST - 1), student(silent, FIRST - 1))
    assert gap(student(state, FIRST), student(silent, FIRST)) > 1e-5


def learning(tree):
    return all(float(jnp.abs(g).max()) > 1e-9 for g in jax.tree.leaves(tree))


def still(tree):
    return not any(np.any(g) for g in jax.tree.leaves(tree))


@pytest.mark.slow
@pytest.mark.parametrize("at", [0, FIRST - 1, FIRST, 100])
def test_gradients(at):
    to_params, to_outputs = gradients(METHOD, first_outputs(at))
    early, late = at < FIRST, at >= FIRST
    for name, learns in {"paraphraser": early, "decoder": early, "translator": late}.items():
        assert learning(to_params[name]) if learns else still(to_params[name])
    assert still(to_outputs["teacher"])
    assert still(to_outputs["student"]) == early


@pytest.mark.full
@pytest.mark.parametrize("form", ["factor", "attention"])
def test_values(form):
    outputs = first_outputs(FIRST + 1)
    method = factor_transfer(**MAPS, paraphrase_steps=FIRST, rate=0.6, power=2, form=form, weight=0.5)
    params, state = compiled(method).init(outputs)
    assert {k: float(v) for k, v in hyperparams_of(state).items()} == {
        "reconstruction.weight": 1.0,
        "factor.weight": 0.5,
    }
    assert params["paraphraser"]["Conv_2"]["kernel"].shape == (3, 3, 3, 3)  # 0.6 of 5 channels

    def convs(name, x):
        for i in range(3):
            layer = params[name][f"Conv_{i}"]
            x = jax.lax.conv_general_dilated(
                x, layer["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = x + layer["bias"].reshape(1, 1, 1, -1)
            x = jnp.where(x > 0, x, 0.1 * x)
        return x

    t = outputs[MAPS["teacher"]]
    s, code = np.asarray(convs("translator", outputs[MAPS["student"]])), np.asarray(convs("paraphraser", t))
    rebuilt = convs("decoder", jnp.asarray(code))
    if form == "attention":
        s, code = (np.mean(x**2, -1) for x in (s, code))
    s, code = (x.reshape(16, -1) / np.linalg.norm(x.reshape(16, -1), axis=1, keepdims=True) for x in (s, code))
    terms, _ = compiled(method).apply(params, state, outputs)
    np.testing.assert_allclose(terms["factor"].values, np.linalg.norm(s - code, axis=1), rtol=1e-4)
    np.testing.assert_allclose(terms["reconstruction"].values, np.mean((t - rebuilt) ** 2, (1, 2, 3)), rtol=1e-4)
    assert float(terms["reconstruction"].weight) == 0 and float(terms["factor"].weight) == 0.5
    assert np.isfinite(float(total(terms)[0]))
