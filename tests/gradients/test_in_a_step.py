"""Gradient schemes within the step, the loop and the command line."""

import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmkd_jax import gradients, losses
from mmkd_jax.core.hyperparams import hyperparams_of
from mmkd_jax.core.model import StepContext
from mmkd_jax.core.objective import combine, term, total
from mmkd_jax.core.outputs import forward
from mmkd_jax.core.sharding import population
from mmkd_jax.core.state import variables
from mmkd_jax.core.step import make_step
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import definition, description
from mmkd_jax.nn.connectors import Linear
from mmkd_jax.training import compiled, loop
from mmkd_jax.training.checkpoint import Checkpoints
from tests import tiny_experiment
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
    soft,
    stepper,
    task,
)

ALL = {
    "uncertainty": gradients.uncertainty(regression=("hint",), learning_rate=0.1),
    "gradnorm": gradients.gradnorm(over="student.Dense_0"),
    "pcgrad": gradients.pcgrad(),
    "cagrad": gradients.cagrad(),
}
EMBEDDINGS = {"student": "student.embedding", "teacher": "teacher.embedding"}
OBJECTIVE = combine(
    task=task(where="labelled", weight=2.0),
    soft=soft(temperature=2),
    hint=term(losses.hint, **EMBEDDINGS, connect={"student": Linear(6)}, weight=0.3),
    match=term(losses.rkd_angle, **EMBEDDINGS),
)
MODELS = {"teacher": net(6), "student": net(8, dropout=0.4)}


def whole(aggregator):
    return distil(MODELS, OBJECTIVE, gradients=aggregator)


@pytest.fixture(scope="module")
def started():
    return {name: initialize(whole(aggregator)) for name, aggregator in ALL.items()}


@pytest.fixture(scope="module")
def trained(started):
    return {name: advance(stepper(whole(ALL[name])), *started[name], batches=make_batches(4)) for name in ALL}


@pytest.mark.slow
def test_the_plain_sum_is_no_scheme_and_tells_the_norm_of_each_term():
    state, frozen = initialize(whole(None))
    step, batch = stepper(whole(gradients.total())), make_batch()
    plain, expected, _ = advance(stepper(whole(None)), state, frozen, make_batches(3))
    here, values, _ = advance(step, state, frozen, make_batches(3))
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    assert gap(here.params, plain.params) < 1e-6

    def gradient(params, name):
        def loss(params):
            ctx = StepContext(state.step, jax.random.fold_in(state.key, state.step))
            outputs, _ = forward(MODELS, variables(state, frozen, params), on_device(batch), ctx)
            return total({name: OBJECTIVE.apply(params["objective"], state.objective_state, outputs)[0][name]})[0]

        return optax.tree.norm(jax.grad(loss)(params)["student"])

    norms = step(state, frozen, batch)[1]["gradients"]
    assert set(norms) == {"task", "soft", "hint", "match"}
    for name, norm in norms.items():
        np.testing.assert_allclose(norm, jax.jit(gradient, static_argnums=1)(state.params, name), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_a_scheme_changes_what_is_learned_and_remembers(name, started, trained):
    (state, frozen), (last, _, _) = started[name], trained[name]
    plain, _, _ = advance(stepper(whole(None)), state, frozen, make_batches(4))
    assert gap(last.params["student"], plain.params["student"]) > 1e-4
    if name in ("uncertainty", "gradnorm"):
        learned = {"uncertainty": "log_variance", "gradnorm": "weight"}[name]
        for term_, value in last.aggregator_state[learned].items():
            assert value != state.aggregator_state[learned][term_]
        assert optax.tree.norm(jax.tree.map(jnp.subtract, last.params["objective"], state.params["objective"])) > 0


@pytest.mark.full
@pytest.mark.parametrize("name", ALL)
def test_microbatches_are_the_whole_batch(name, started, trained):
    last, values, _ = trained[name]
    here, each, _ = advance(stepper(whole(ALL[name]), 4), *started[name], batches=make_batches(4))
    near = 1e-4 if name == "cagrad" else 2e-5  # its optimum is flat: rounding moves the weights a little
    np.testing.assert_allclose(each, values, rtol=near)
    assert gap(here.params, last.params) < near
    assert gap(here.aggregator_state, last.aggregator_state) < 1e-4 if jax.tree.leaves(last.aggregator_state) else True


@pytest.mark.slow
def test_a_population_of_numbers_is_as_many_single_runs(started, trained):
    state, frozen = started["cagrad"]
    states = [dataclasses.replace(state, aggregator_state={"hyperparams": {"c": jnp.float32(c)}}) for c in (0.0, 0.5)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *states)
    step = jax.jit(population(make_step(whole(ALL["cagrad"])), batch_axis=None))
    for batch in make_batches(4):
        stacked, _ = step(stacked, frozen, batch)
    assert gap(jax.tree.map(lambda x: x[1], stacked.params), trained["cagrad"][0].params) < 1e-4
    plain, _, _ = advance(stepper(whole(None)), state, frozen, make_batches(4))
    assert gap(jax.tree.map(lambda x: x[0], stacked.params), plain.params) < 1e-5  # c = 0 is the sum


def test_a_wrong_scheme_is_refused_before_the_first_step():
    with pytest.raises(UserError, match="the terms are: hint, match, soft, task"):
        initialize(whole(gradients.uncertainty(regression=("hints",))))
    with pytest.raises(UserError, match="pcgrad combines the gradients of several terms"):
        initialize(distil(MODELS, combine(task=task()), gradients=gradients.pcgrad()))
    with pytest.raises(UserError, match="a term cannot be named 'gradients'"):
        initialize(distil(MODELS, combine(task=task(), gradients=soft()), gradients=gradients.pcgrad()))
    with pytest.raises(UserError, match="has no hyperparameter gradients.d.*gradients.c"):
        initialize(whole(gradients.cagrad()), hyperparams={"gradients.d": 1.0})


PARTS = tiny_experiment.trainings(tiny_experiment.Config(steps=30))
PART = dataclasses.replace(PARTS["student"], gradients=gradients.gradnorm(learning_rate=0.1))


def fit(folder, **options):
    with contextlib.closing(Checkpoints(folder)) as checkpoints:
        given = {"teacher": begin_teacher()}
        return loop.fit(
            PART,
            compiled.compile_training(PART),
            0,
            checkpoints,
            initial_variables=given,
            log=lambda line: None,
            **options,
        )


def begin_teacher():
    batch = {k: jnp.zeros(s.shape, s.dtype) for k, s in PART.data.spec.items()}
    return PART.networks["teacher"].init(jax.random.key(7), batch)


@pytest.mark.slow
def test_a_run_resumes_with_the_scheme_s_memory_and_writes_the_norms(tmp_path):
    seen = []
    with pytest.raises(loop.Interrupted):
        fit(tmp_path / "c", on_metrics=lambda step, row, speed: seen.append(step), should_stop=lambda: len(seen) == 3)
    resumed, undisturbed = fit(tmp_path / "c"), fit(tmp_path / "d")
    assert resumed.history == undisturbed.history and equal(resumed.variables, undisturbed.variables)
    assert {"gradient task", "gradient soft", "term task"} <= set(resumed.history[0])
    assert all(row["gradient soft"] > 0 for row in resumed.history)


def test_the_command_line_sets_and_explains_a_scheme_s_numbers():
    trainings = PARTS | {"student": PART}
    own = definition.check(
        trainings, {"gradients.alpha": 0.5, "student.gradients.learning_rate": 0.2, "objective.task.weight": 2.0}
    )
    assert own["student"] == {"gradients.alpha": 0.5, "gradients.learning_rate": 0.2, "task.weight": 2}
    assert own["teacher"] == {"task.weight": 2}
    assert "gradients   gradnorm (alpha 0.5, learning_rate 0.2)" in description.text(trainings, own)
    state, _ = PART.abstract(own["student"])
    assert set(hyperparams_of(state.aggregator_state)) == {"alpha", "learning_rate"}
    with pytest.raises(UserError, match="no hyperparameter --gradients.c .*student.gradients.alpha"):
        definition.check(trainings, {"gradients.c": 1.0})
