"""One device, jit on a mesh, shard_map and pmap are one computation, on all that is hard to spread."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import losses, methods
from mmkd_jax.adversarial import PGD
from mmkd_jax.core.model import StepContext
from mmkd_jax.core.objective import combine, stateless, term
from mmkd_jax.core.outputs import forward
from mmkd_jax.core.sharding import compile_step
from mmkd_jax.core.step import make_step
from mmkd_jax.errors import UserError
from mmkd_jax.nn.connectors import Linear
from tests.small import advance, distil, equal, gap, initialize, make_batch, make_batches, net, task

FORMS = ["jit", "shard_map", "pmap"]
ROWS, STEPS = 32, 10
BANK = dict(width=4, negatives=8, temperature=0.5)


def embeddings(loss, **more):
    return term(loss, student="student.embedding", teacher="teacher.embedding", **more)


COUPLED = {
    "task": task(where="labelled"),
    "match": embeddings(
        losses.info_nce, connect={"student": Linear(6, batch_norm=True)}, where="present.audio", weight=0.1
    ),
    "distance": embeddings(losses.rkd_distance, where="present.audio"),
    "angle": embeddings(losses.rkd_angle),
    "bank": methods.crd(64, weight=0.02, **BANK),
}
AGAIN = {
    "robust": methods.rslad("image", attack=PGD(eps=0.1, step_size=0.05, steps=2, low=None, high=None)),
    "causal": methods.interchange("features.image", where="present.audio"),
}


def whole(batch_norm=True, terms=COUPLED | AGAIN):
    models = {
        "teacher": net(6, "image", "audio"),
        "student": net(8, "image", "audio", batch_norm=batch_norm, dropout=0.3),
    }
    return distil(models, combine(**terms))


def single(distillation, microbatches=1):
    state, frozen = initialize(distillation, make_batch(rows=ROWS))
    step = compile_step(make_step(distillation, microbatches), donate=False)
    return state, frozen, advance(step, state, frozen, make_batches(STEPS, ROWS))


@pytest.fixture(scope="module")
def reference():
    return single(whole())


@pytest.fixture(scope="module")
def accumulated():
    return single(whole(False, COUPLED), microbatches=4)


@pytest.fixture(scope="module")
def on_mesh(mesh, reference):
    """form -> the same ten steps on eight devices, each computed once."""

    @functools.cache
    def run(form):
        step = compile_step(make_step(whole()), form, mesh, donate=False)
        return advance(step, *reference[:2], batches=make_batches(STEPS, ROWS))

    return run


@pytest.mark.parametrize("form", FORMS)
def test_ten_steps_agree_with_one_device(form, on_mesh, reference):
    state, _, (last, values, terms) = reference
    here, spread, each = on_mesh(form)
    np.testing.assert_allclose(spread, values, rtol=1e-5)
    for name in terms:
        np.testing.assert_allclose(each[name], terms[name], rtol=2e-5, atol=1e-7, err_msg=name)
    assert gap(here.objective_state["bank"]["bank"], last.objective_state["bank"]["bank"]) < 1e-5
    for side, z in last.objective_state["bank"]["z"].items():
        np.testing.assert_allclose(here.objective_state["bank"]["z"][side], z, rtol=1e-5)
    for there, one in [
        (here.params, last.params),
        (here.model_state, last.model_state),
        (here.objective_state["match"], last.objective_state["match"]),
    ]:
        assert gap(there, one) < 1e-5
    assert int(here.step) == STEPS and equal(jax.random.key_data(here.key), jax.random.key_data(state.key))


@pytest.mark.parametrize("form", FORMS)
def test_accumulation_agrees_with_one_device(form, mesh, accumulated):
    state, frozen, (last, values, _) = accumulated
    step = compile_step(make_step(whole(False, COUPLED), 4), form, mesh, donate=False)
    here, spread, _ = advance(step, state, frozen, make_batches(STEPS, ROWS))
    np.testing.assert_allclose(spread, values, rtol=1e-5)
    assert gap(here.params, last.params) < 1e-5


def test_the_hard_parts_are_active(reference):
    """Else that the forms agree would say nothing."""
    state, _frozen, (last, _, terms) = reference
    for name, value in terms.items():
        assert np.abs(value).min() > 1e-4, name
    assert np.mean(terms["robust.attacked"] - terms["robust.clean"]) > 1e-3  # the attack finds something
    for before, after in [
        (state.model_state, last.model_state),  # statistics of the student's BatchNorm
        (state.objective_state["match"]["state"], last.objective_state["match"]["state"]),  # of the connector's
        (state.objective_state["bank"]["bank"], last.objective_state["bank"]["bank"]),
        (state.params["objective"], last.params["objective"]),
        (state.params["student"], last.params["student"]),
    ]:
        for x, y in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
            assert not np.array_equal(x, y)
    assert all(float(z) > 0 for z in last.objective_state["bank"]["z"].values())
    masks = [b["valid"].reshape(8, -1).sum(1) for b in make_batches(STEPS, ROWS)]
    assert any(len(set(m.tolist())) > 1 for m in masks) and not np.array_equal(masks[0], masks[1])


def test_a_device_on_its_own_would_say_something_else(reference):
    """Each part that couples rows differs from what blocks of rows give without the others."""
    state, frozen, _ = reference
    models, batch = whole().models, {k: jnp.asarray(v) for k, v in make_batch(rows=ROWS).items()}
    now = {**frozen, "student": {"params": state.params["student"], **state.model_state["student"]}}

    @jax.jit
    def evaluate(batch):
        ctx = StepContext(state.step, jax.random.key(1))
        outputs, _ = forward(models, now, batch, ctx)
        still, _ = forward(models, now, batch, ctx._replace(train=False))
        causal = AGAIN["causal"]
        values = {"dropout and BatchNorm": outputs["student.logits"] - still["student.logits"]}
        values["causal"] = causal.apply(*causal.init(outputs), outputs)[0].values
        for name in ("match", "distance", "angle"):
            values[name] = COUPLED[name].apply(*COUPLED[name].init(outputs), outputs)[0].values
        return values

    together = evaluate(batch)
    assert float(jnp.abs(together.pop("dropout and BatchNorm")).max()) > 1e-2
    alone = [evaluate({k: x[i : i + 4] for k, x in batch.items()}) for i in range(0, ROWS, 4)]
    for name, values in together.items():
        blocks = jnp.concatenate([a[name] for a in alone])
        assert float(jnp.abs(jnp.where(batch["valid"], values - blocks, 0)).max()) > 1e-3, name


def test_the_bank_is_spread_over_the_mesh(on_mesh):
    after = on_mesh("jit")[0]
    for bank in after.objective_state["bank"]["bank"].values():
        assert bank.shape == (64, 4)
        assert {s.data.shape for s in bank.addressable_shards} == {(8, 4)} and len(bank.sharding.device_set) == 8
    assert all(x.sharding.is_fully_replicated for x in jax.tree.leaves(after.params))


def means(student, teacher, where):
    return jnp.mean((student - teacher) ** 2, where=where[:, None])


@pytest.mark.parametrize("form", ["shard_map", "pmap"])
@pytest.mark.parametrize(
    ("part", "named"),
    [
        (term(means, student="student.logits", teacher="teacher.logits"), "means"),
        (stateless(lambda outputs: jnp.std(outputs["student.logits"])), "lambda"),
    ],
)
def test_a_term_that_couples_rows_without_gathering_is_refused(form, part, named, mesh):
    distillation = distil({"teacher": net(4), "student": net(4)}, combine(task=task(), crowd=part))
    state, frozen = initialize(distillation)
    with pytest.raises(UserError, match=f"'crowd'.*{named}.*has no argument axis_name"):
        compile_step(make_step(distillation), form, mesh)(state, frozen, make_batch())


def test_a_function_that_names_the_axis_is_taken(mesh):
    def spread(outputs, axis_name):
        x = (
            outputs["student.logits"]
            if axis_name is None
            else jax.lax.all_gather(outputs["student.logits"], axis_name, tiled=True)
        )
        return jnp.std(x)

    distillation = distil({"student": net(4)}, combine(task=task(), crowd=stateless(spread)))
    state, frozen = initialize(distillation)
    runs = [
        advance(compile_step(make_step(distillation), form, on, donate=False), state, frozen, make_batches(3))
        for form, on in (("jit", None), ("shard_map", mesh))
    ]
    np.testing.assert_allclose(runs[1][1], runs[0][1], rtol=1e-5)
    assert gap(runs[0][0].params, runs[1][0].params) < 1e-6


def test_a_donated_state_is_refused_not_a_crash(mesh):
    distillation = distil({"teacher": net(4), "student": net(4)}, methods.crd(64, **BANK))
    state, frozen = initialize(distillation)
    step, batch = compile_step(make_step(distillation), "jit", mesh), make_batch()
    first, _ = step(state, frozen, batch)
    second, _ = step(first, frozen, batch)
    with pytest.raises(UserError, match="use the state that step returned"):
        step(first, frozen, batch)
    step(second, frozen, batch)


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_that_does_not_divide_is_refused(form, mesh):
    distillation = distil({"student": net(4)}, task())
    state, frozen = initialize(distillation)
    with pytest.raises(UserError, match="15 rows does not divide over 8 devices"):
        compile_step(make_step(distillation), form, mesh)(state, frozen, make_batch(rows=15))


def test_a_form_without_a_mesh_is_refused():
    with pytest.raises(UserError, match="needs a mesh: pass mesh="):
        compile_step(make_step(distil({"student": net(4)}, task())), "pmap")
