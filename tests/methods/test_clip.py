"""CLIP-KD: what the student sees masked, what is fused, and its six terms, each swappable."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import losses, methods
from mmkd_jax.core.hyperparams import hyperparams_of
from mmkd_jax.core.objective import combine, term, total
from mmkd_jax.errors import UserError
from mmkd_jax.methods.contrastive.clip_mfd import mask_patches
from tests.losses.formulas import clip as formulas
from tests.losses.formulas import contrastive
from tests.methods.towers import ALIKE, MODELS, PATHS, SIDES, captions, first_outputs
from tests.small import advance, compiled, distil, equal, gap, initialize, set_hyperparams, stepper

pytestmark = pytest.mark.usefixtures("strict")
TERMS = ("fd", "mfd", "crd", "icl", "gd", "afd")


def embeddings(outputs, model):
    return tuple(np.asarray(outputs[path], np.float64) for path in PATHS[model])


def value(method, outputs, params=None):
    made, state = compiled(method).init(outputs)
    return float(total({"it": compiled(method).apply(params or made, state, outputs)[0]})[0])


def test_whole_patches_are_masked_by_step_and_example():
    ids, x = jnp.arange(40), jnp.ones((40, 4, 6, 2), jnp.uint8)
    for share, gone in ((0.0, 0), (0.5, 3), (1.0, 6)):
        seen = mask_patches(jax.random.key(0), ids, x, 2, jnp.float32(share))
        assert seen.dtype == jnp.uint8
        blocks = np.asarray(seen).reshape(40, 2, 2, 3, 2, 2).swapaxes(2, 3).reshape(40, 6, 8)
        assert (blocks.all(-1) | ~blocks.any(-1)).all()
        assert ((blocks == 0).all(-1).sum(-1) == gone).all()
    half = mask_patches(jax.random.key(0), ids, x, 2, 0.5)
    assert len(np.unique(np.asarray(half), axis=0)) > 10  # of 20
    moved = mask_patches(jax.random.key(0), ids[::-1], x, 2, 0.5)
    np.testing.assert_array_equal(moved[::-1], half)
    assert not np.array_equal(mask_patches(jax.random.key(1), ids, x, 2, 0.5), half)


def test_mfd_is_fd_of_a_student_that_sees_a_part():
    outputs = first_outputs(ALIKE)
    plain = total({"fd": term(losses.clip_fd, **PATHS).apply({}, _numbers(1.0), outputs)[0]})[0]
    assert value(methods.clip_mfd(patch=2, masked=0.0, weight=1.0), outputs) == pytest.approx(float(plain), rel=1e-6)
    blind = first_outputs(ALIKE, captions() | {"image": np.zeros((16, 4, 4, 1), np.float32)})
    whole = methods.clip_mfd(patch=2, masked=1.0, weight=1.0)
    sees = dataclasses.replace(blind, by_model={**blind.by_model, "teacher": outputs.by_model["teacher"]})
    expected = total({"fd": term(losses.clip_fd, **PATHS).apply({}, _numbers(1.0), sees)[0]})[0]
    assert value(whole, outputs) == pytest.approx(float(expected), rel=1e-6)
    assert abs(value(methods.clip_mfd(patch=2, weight=1.0), outputs) - float(plain)) > 1e-3
    with pytest.raises(UserError, match=r"clip_mfd: image is \[16, 4, 4, 1\]; expected .* patches of 3"):
        methods.clip_mfd(patch=3).init(outputs)


def _numbers(weight):
    return {"hyperparams": {"weight": np.float32(weight)}, "state": {}}


def test_afd_fuses_student_and_teacher():
    method, outputs = methods.clip_afd(temperature=0.5, where=("present.text",)), first_outputs()
    params, state = compiled(method).init(outputs)
    sides = zip(SIDES, embeddings(outputs, "student"), embeddings(outputs, "teacher"), strict=True)
    fused = [
        np.concatenate([formulas.to_unit(s), formulas.to_unit(t)], 1) @ np.asarray(params[n]["kernel"], np.float64)
        + np.asarray(params[n]["bias"])
        for n, s, t in sides
    ]
    here = np.asarray(outputs.batch["valid"] & outputs.batch["present.text"])
    expected = contrastive.info_nce(fused[0][here], fused[1][here], 0.5, symmetric=True)
    assert value(method, outputs) == pytest.approx(expected.mean(), rel=1e-5)

    def loss(params, model_outputs):
        return total(
            {"it": compiled(method).apply(params, state, dataclasses.replace(outputs, by_model=model_outputs))[0]}
        )[0]

    to_params, to_outputs = jax.jit(jax.grad(loss, (0, 1)))(params, outputs.by_model)
    assert all(float(jnp.abs(g).max()) > 1e-4 for g in jax.tree.leaves(to_params["image"]["kernel"]))
    assert not any(np.any(g) for g in jax.tree.leaves(to_outputs["teacher"]))
    assert all(np.abs(to_outputs["student"][f"features.{s}"]).max() > 1e-4 for s in SIDES)


@pytest.fixture(scope="module")
def trained():
    """Ten steps of all six, the student being narrower; nearly all weights as published."""
    method = methods.clip_kd(patch=2, teacher_temperature=0.07, where="present.text")
    distillation = distil(MODELS, combine(kd=method), rate=1e-4)
    step, (state, frozen) = stepper(distillation), initialize(distillation, captions())
    before = jax.tree.map(np.array, frozen)
    last, values, terms = advance(step, state, frozen, [captions()] * 10)
    return step, state, frozen, before, last, values, terms


@pytest.mark.slow
def test_its_six_terms_are_the_formulas(trained):
    _, state, _, _, _, _, _terms = trained
    assert {k for k in hyperparams_of(state.objective_state) if k.endswith("weight")} == {
        f"kd.{t}.weight" for t in TERMS
    }
    outputs = first_outputs(ALIKE)
    here = np.asarray(outputs.batch["valid"])
    ours, theirs = ([x[here] for x in embeddings(outputs, m)] for m in ("student", "teacher"))
    method = methods.clip_kd(patch=2, teacher_temperature=0.05)
    params, objective_state = compiled(method).init(outputs)
    assert params["project"] == {}
    metrics = total(compiled(method).apply(params, objective_state, outputs)[0])[1]
    expected: dict[str, Any] = {
        "fd": formulas.clip_fd(ours, theirs),
        "crd": formulas.clip_crd(ours, theirs, 0.07, 0.05),
        "icl": formulas.clip_icl(ours, theirs, 0.07),
        "gd": formulas.clip_gd(ours, theirs, 1 / 0.07, 1 / 0.05),
    }
    for name, values in expected.items():
        found, count = metrics[name]
        np.testing.assert_allclose(float(found / count), values.mean(), rtol=1e-4, err_msg=name)
    weights = {n: float(objective_state[n]["hyperparams"]["weight"]) for n in TERMS}
    assert weights == {"fd": 2000, "mfd": 2000, "crd": 1, "icl": 1, "gd": 1e8, "afd": 1}


@pytest.mark.full
def test_it_learns_and_each_term_matters(trained):
    step, state, frozen, before, last, values, terms = trained
    assert np.isfinite(values).all() and values[-1] < 0.9 * values[0]
    assert equal(frozen, before)
    assert {n.removeprefix("kd.") for n in terms} == set(TERMS)
    for x, y in zip(jax.tree.leaves(state.params), jax.tree.leaves(last.params), strict=True):
        assert not np.array_equal(x, y)
    assert set(state.params["objective"]["kd"]["project"]) == set(SIDES)
    whole = step(state, frozen, captions())[0].params["student"]
    for name in TERMS:
        without = step(set_hyperparams(state, {f"kd.{name}.weight": 0.0}), frozen, captions())[0].params["student"]
        assert gap(whole, without) > 1e-7, name


@pytest.mark.full
def test_each_term_can_be_swapped_or_left_out():
    outputs = first_outputs(ALIKE)
    relations = term(losses.rkd_distance, student="projected.image", teacher=PATHS["teacher"][0])
    method = methods.clip_kd(swap={"crd": relations, "mfd": None, "gd": None})
    params, state = compiled(method).init(dataclasses.replace(outputs, run={}))  # no second pass
    made = compiled(method).apply(params, state, dataclasses.replace(outputs, run={}))[0]
    assert set(made) == {"fd", "crd", "icl", "afd"}
    direct = losses.rkd_distance(
        outputs["student.features.image"], outputs["teacher.features.image"], where=_valid(outputs)
    )
    np.testing.assert_allclose(made["crd"].values, direct, rtol=1e-6)
    with pytest.raises(UserError, match="clip_kd: swap names the unknown term .*kd.*; the terms are: .*icl"):
        methods.clip_kd(swap={"kd": None})


def _valid(outputs):
    return outputs.batch["valid"]


@pytest.mark.full
def test_padding_changes_nothing():
    batch, spoilt = captions(), captions()
    gone = ~(batch["valid"] & batch["present.text"])
    for name in SIDES:
        spoilt[name][gone] = 5.0
    method = methods.clip_kd(patch=2, where="present.text")
    one, other = first_outputs(), first_outputs(batch=spoilt)
    params, _ = compiled(method).init(one)
    assert value(method, one, params) == pytest.approx(value(method, other, params), rel=1e-6)


def test_both_sides_of_a_contrast_learn_and_a_term_stops_its_teacher():
    outputs = first_outputs()
    images, texts = (f"student.features.{s}" for s in SIDES)

    def slopes(method):
        def loss(model_outputs):
            here = dataclasses.replace(outputs, by_model=model_outputs)
            return total({"it": compiled(method).apply(*compiled(method).init(here), here)[0]})[0]

        found = jax.jit(jax.grad(loss))(outputs.by_model)["student"]
        return [float(jnp.abs(found[f"features.{s}"]).max()) for s in SIDES]

    both = methods.contrast(images, texts, symmetric=True, temperature=0.5)
    assert min(slopes(both)) > 1e-4
    assert min(slopes(methods.contrast(images, texts, loss=losses.siglip))) > 1e-6
    assert slopes(term(losses.info_nce, student=images, teacher=texts, symmetric=True, temperature=0.5))[1] == 0
    here = np.asarray(outputs.batch["valid"])
    expected = contrastive.info_nce(*(x[here] for x in embeddings(outputs, "student")), temperature=0.5, symmetric=True)
    assert value(both, outputs) == pytest.approx(expected.mean(), rel=1e-5)
    with pytest.raises(UserError, match="no argument 'student'|no argument .*teacher"):
        methods.contrast(images, texts, loss=losses.cross_entropy)
