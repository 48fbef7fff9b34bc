"""Contrastive representation distillation against a NumPy reference, step by step."""

import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import data
from mmkd_jax.core.hyperparams import hyperparams_of
from mmkd_jax.core.model import StepContext
from mmkd_jax.core.objective import combine, total
from mmkd_jax.core.outputs import Outputs
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import definition, runner
from mmkd_jax.methods import crd
from mmkd_jax.training.banks import check_banks
from mmkd_jax.training.checkpoint import Checkpoints
from tests import tiny_experiment
from tests.small import compiled, equal, with_role

pytestmark = pytest.mark.usefixtures("strict")
SIZE, K, WIDTH, ROWS, TAU, MOMENTUM = 20, 6, 4, 5, 0.3, 0.6
PART = crd(SIZE, width=WIDTH, negatives=K, temperature=TAU, momentum=MOMENTUM, weight=0.5)
IDS = np.array([7, 0, 19, 3, 12], np.int32)


def first_outputs(step=0, ids=IDS, **batch):
    draw = np.random.default_rng(step)
    student, teacher = (jnp.asarray(draw.normal(size=(ROWS, d)), jnp.float32) for d in (5, 3))
    ctx = StepContext(jnp.int32(step), jax.random.fold_in(jax.random.key(0), step))
    batch = {"example_id": jnp.asarray(ids), **batch}
    return Outputs(batch, {"student": {"embedding": student}, "teacher": {"embedding": teacher}}, {}, ctx)


def rows_of(outputs):
    """The positive, then the negatives, which belong to step and example."""
    ids = np.asarray(outputs.batch["example_id"])
    draws = [jax.random.randint(jax.random.fold_in(outputs.ctx.key, int(i)), (K,), 0, SIZE) for i in ids]
    return np.concatenate([ids[:, None], np.asarray(draws)], 1)


def reference(params, state, outputs, valid=None):
    """As published: embed, score against the other side's bank, NCE, then move the banks."""
    valid = np.ones(ROWS, bool) if valid is None else valid
    rows, x = rows_of(outputs), {}
    for side in ("student", "teacher"):
        raw = np.asarray(outputs[f"{side}.embedding"], np.float64)
        raw = raw @ np.asarray(params[side]["kernel"], np.float64) + np.asarray(params[side]["bias"], np.float64)
        x[side] = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    banks = {side: np.asarray(b, np.float64) for side, b in state["bank"].items()}
    values, z = np.zeros(ROWS), {}
    for anchor, other in (("student", "teacher"), ("teacher", "student")):
        for i in range(ROWS):
            e = [np.exp(x[anchor][i] @ banks[other][r] / TAU) for r in rows[i]]
            z.setdefault(anchor, []).append(e)
        e, kept = np.array(z[anchor]), float(state["z"][anchor])
        z[anchor] = kept if kept > 0 else e[valid].mean() * SIZE
        p, noise = e / z[anchor], K / SIZE
        values -= np.log(p[:, 0] / (p[:, 0] + noise)) + np.log(noise / (p[:, 1:] + noise)).sum(1)
    after = {side: b.copy() for side, b in banks.items()}
    for side in after:
        for i, row in enumerate(np.asarray(outputs.batch["example_id"])):
            if valid[i]:
                new = MOMENTUM * banks[side][row] + (1 - MOMENTUM) * x[side][i]
                after[side][row] = new / np.linalg.norm(new)
    return values, {"bank": after, "z": z}


def check(step, state, params, **batch):
    outputs = first_outputs(step, **batch)
    valid = None if "valid" not in batch else np.asarray(batch["valid"])
    part, after = compiled(PART).apply(params, state, outputs)
    values, expected = reference(params, state, outputs, valid)
    here = np.ones(ROWS, bool) if valid is None else valid
    np.testing.assert_allclose(np.asarray(part.values)[here], values[here], rtol=1e-5)
    np.testing.assert_allclose(float(total({"crd": part})[0]), 0.5 * values[here].mean(), rtol=1e-5)
    for side in ("student", "teacher"):
        np.testing.assert_allclose(after["bank"][side], expected["bank"][side], atol=1e-6)
        np.testing.assert_allclose(after["z"][side], expected["z"][side], rtol=1e-5)
    return after


@pytest.mark.full
def test_three_steps_agree_with_the_reference():
    params, state = compiled(PART).init(first_outputs())
    assert hyperparams_of(state).keys() == {"temperature", "momentum", "weight"}
    first = state
    for step in range(3):
        state = check(step, state, params)
        assert state["z"] == check(step, state, params)["z"]  # fixed by the first batch
    others = np.setdiff1d(np.arange(SIZE), IDS)
    for side in first["bank"]:  # only the rows that were seen move
        moved = np.any(np.asarray(first["bank"][side] != state["bank"][side]), 1)
        assert moved[IDS].all() and not moved[others].any()


def test_padding_counts_nowhere():
    params, state = compiled(PART).init(first_outputs())
    valid = jnp.array([True, True, False, True, False])
    after = check(0, state, params, valid=valid)
    assert np.array_equal(after["bank"]["student"][12], state["bank"]["student"][12])
    nobody = compiled(PART).apply(params, state, first_outputs(valid=jnp.zeros(ROWS, bool)))[1]
    assert float(nobody["z"]["student"]) == -1  # Z waits for a row that counts
    assert np.array_equal(nobody["bank"]["teacher"], state["bank"]["teacher"])


def test_of_equal_ids_the_first_row_is_kept():
    params, state = compiled(PART).init(first_outputs())
    twice = first_outputs(ids=np.array([7, 7, 19, 3, 7], np.int32))
    after = compiled(PART).apply(params, state, twice)[1]["bank"]["student"]
    once = compiled(PART).apply(params, state, first_outputs())[1]["bank"]["student"]
    np.testing.assert_array_equal(after[7], once[7])


def test_an_id_beyond_the_bank_is_seen():
    params, state = compiled(PART).init(first_outputs())
    part, after = compiled(PART).apply(params, state, first_outputs(ids=np.array([7, SIZE, 19, -1, 12], np.int32)))
    assert np.isnan(np.asarray(part.values)).tolist() == [False, True, False, True, False]
    assert np.isfinite(np.asarray(after["bank"]["student"])).all()
    assert np.array_equal(after["bank"]["student"][SIZE - 2], state["bank"]["student"][SIZE - 2])


@pytest.mark.full
def test_gradients():
    """As finite differences say; none to the teacher, one to its projection."""
    params, state = compiled(PART).init(first_outputs())
    state = compiled(PART).apply(params, state, first_outputs())[1]  # Z is fixed from here on
    outputs = first_outputs(1)

    def loss(params, student, teacher):
        model_outputs = {"student": {"embedding": student}, "teacher": {"embedding": teacher}}
        return total(compiled(PART).apply(params, state, dataclasses.replace(outputs, by_model=model_outputs))[0])[0]

    x = outputs["student.embedding"], outputs["teacher.embedding"]
    to_params, to_student, to_teacher = jax.jit(jax.grad(loss, (0, 1, 2)))(params, *x)
    assert not np.any(to_teacher) and np.abs(to_student).max() > 1e-3
    assert all(np.abs(g).max() > 1e-4 for g in jax.tree.leaves(to_params))

    def at(h):
        moved = dataclasses.replace(
            outputs, by_model={**outputs.by_model, "student": {"embedding": x[0] + h * jnp.sign(to_student)}}
        )
        return 0.5 * reference(params, state, moved)[0].mean()

    slope = (at(0.01) - at(-0.01)) / 0.02
    np.testing.assert_allclose(slope, np.abs(to_student).sum(), rtol=1e-3)


def test_banks_and_z_are_saved_and_come_back(tmp_path):
    params, state = compiled(PART).init(first_outputs())
    state = jax.tree.map(jnp.asarray, compiled(PART).apply(params, state, first_outputs())[1])
    assert all(float(z) > 0 for z in state["z"].values())
    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(1, state, {})
        checkpoints.wait()
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), x.dtype), state)
        found = checkpoints.restore(like)
    assert found is not None
    _, restored, _, damaged = found
    assert not damaged and equal(restored, state)
    outputs = first_outputs(1)
    values, again = (compiled(PART).apply(params, m, outputs)[0].values for m in (state, restored))
    np.testing.assert_array_equal(again, values)


def test_banks_smaller_than_a_batch_are_refused():
    with pytest.raises(UserError, match="term 'it': crd: size is 4, but a batch has 5 rows"):
        combine(it=crd(4)).init(first_outputs())


def examples(kind, ids, size):
    """An experiment of 48 examples whose student has a bank."""
    columns = tiny_experiment.trainings(tiny_experiment.config)["student"].data.dataset.columns
    rows = data.from_columns(columns | ({} if ids is None else {"example_id": ids}), "made-up")

    def parts(config):
        made = tiny_experiment.trainings(config)
        bank = combine(task=made["student"].task.objective(), far=combine(pair=crd(size, width=4, negatives=8)))
        return {
            "student": dataclasses.replace(
                with_role(made["student"], "teacher", init_from=None, random=True),
                objective=bank,
                data=kind(rows, 16),
                steps=5,
            )
        }

    return definition.Experiment("made-up", tiny_experiment.Config(seeds=1), parts, None, None, "")


@pytest.mark.parametrize("kind", [data.InMemory, data.GrainLoader])
def test_an_experiment_with_more_examples_than_the_bank_has_rows_is_refused(kind, tmp_path):
    said = "training 'student': term 'far.pair': its bank has 40 rows, but example_id .* goes to 47.*give it size=48"
    with pytest.raises(UserError, match=said):
        runner.run(*_asked(examples(kind, None, 40)), options=runner.RunOptions(out=tmp_path / "small"))


def test_ids_beyond_the_bank_are_seen_in_data_that_are_few(tmp_path):
    far = np.where(np.arange(48) == 3, 1_000, np.arange(48)).astype(np.int32)
    with pytest.raises(UserError, match="has 48 rows, but example_id .* goes to 1000: give it size=1001"):
        runner.run(*_asked(examples(data.InMemory, far, 48)), options=runner.RunOptions(out=tmp_path / "far"))
    check_banks(examples(data.InMemory, None, 48).trainings(tiny_experiment.config)["student"])  # fits


def _asked(tiny):
    return tiny, tiny.config


def test_rows_outside_of_the_mask_are_no_positives_and_enter_no_bank():
    there = jnp.array([True, False, True, True, False])
    part = crd(SIZE, width=WIDTH, negatives=K, temperature=TAU, momentum=MOMENTUM, weight=0.5, where="present.audio")
    masked, valid = first_outputs(**{"present.audio": there}), first_outputs(valid=there)
    params, state = compiled(part).init(masked)
    (one, after), (two, expected) = (
        compiled(part).apply(params, state, masked),
        compiled(PART).apply(params, state, valid),
    )
    assert total({"it": one})[0] == total({"it": two})[0] and equal(after, expected)
    assert np.array_equal(after["bank"]["student"][IDS[1]], state["bank"]["student"][IDS[1]])
