"""A modality that is dropped at random, and a second stage that starts from a first one's variables."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmkd_jax import losses
from mmkd_jax.augment.modalities import drop_modality
from mmkd_jax.core.model import StepContext, with_input
from mmkd_jax.core.objective import combine, term
from mmkd_jax.core.state import variables
from mmkd_jax.nn.connectors import Linear
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

SOME_MISSING = drop_modality(0.5, ("image", "audio"))


@pytest.mark.slow
def test_a_modality_dropped_at_random():
    whole = net(8, "image", "audio")
    models = {"teacher": with_input(net(6, "image", "audio"), SOME_MISSING), "student": with_input(whole, SOME_MISSING)}
    dropping = distil(models, combine(task=task(), soft=soft()))
    state, frozen = initialize(dropping)
    seeing = dropping._replace(models={"teacher": net(6, "image", "audio"), "student": whole})
    there, unchanged = initialize(seeing)
    assert equal((there.params, unchanged), (state.params, frozen))  # the input has no variables
    last, values, _ = advance(stepper(dropping), state, frozen, make_batches())
    usual, others, _ = advance(stepper(seeing), state, frozen, make_batches())
    assert np.abs(values - others).max() > 1e-3 and gap(last.params, usual.params) > 1e-3

    batch = on_device(make_batch() | {"present.audio": np.ones(16, bool)})

    def logits(step, model, train=True, rows=slice(None)):
        ctx = StepContext(step, jax.random.fold_in(state.key, step), train)
        held = variables(state, frozen)["student"]
        return np.asarray(model.apply(held, {k: x[rows] for k, x in batch.items()}, ctx, {})[0]["logits"])

    dropped = [np.any(logits(i, models["student"]) != logits(i, whole), 1) for i in range(4)]
    assert 0.2 < np.mean(dropped) < 0.8 and not np.array_equal(dropped[0], dropped[1])  # some rows, others each step
    order = np.arange(16)[::-1]  # it belongs to the example, not to its place
    np.testing.assert_allclose(
        logits(0, models["student"], rows=order), logits(0, models["student"])[order], rtol=1e-5, atol=1e-6
    )
    # a frozen model, and one that is evaluated, sees all
    np.testing.assert_array_equal(logits(0, models["student"], train=False), logits(0, whole, train=False))


def test_fitnets_in_two_stages():
    models, batches = {"teacher": net(8), "student": net(6)}, make_batches()
    hint = term(
        losses.hint,
        student="student.features.image",
        teacher="teacher.features.image",
        connect={"student": Linear(8, batch_norm=True)},
    )
    one = distil(models, combine(hint=hint), optimizer=optax.sgd(0.5))
    state, frozen = initialize(one)
    first, values, _ = advance(stepper(one), state, frozen, [batches[0]] * 10)
    assert values[-1] < 0.9 * values[0]
    moved: dict[str, float] = {n: gap(first.params["student"][n], x) for n, x in state.params["student"].items()}
    assert moved["encoders_image"] > 1e-3  # the guided layers learn; what lies above stays, bit for bit
    assert moved["Dense_0"] == moved["Classifier_0"] == 0
    assert gap(first.params["objective"], state.params["objective"]) > 1e-3  # the connector is trained beside them
    assert gap(first.objective_state["hint"]["state"], state.objective_state["hint"]["state"]) > 1e-3

    two = distil(models, combine(task=task(), soft=soft()))
    given = variables(first, frozen)
    second, again = initialize(two, variables=given)
    assert equal(second.params["student"], first.params["student"]) and equal(again, frozen)
    assert not jax.tree.leaves(second.params["objective"])  # the connector is gone
    scratch, _ = initialize(two, variables={"teacher": frozen["teacher"]})
    step = stepper(two)
    guided, with_hint, _ = advance(step, second, again, batches)
    plain, without, _ = advance(step, scratch, again, batches)
    assert abs(with_hint[0] - without[0]) > 1e-4 and gap(guided.params, plain.params) > 1e-3
    assert equal(again, frozen) and jnp.isfinite(with_hint).all()
