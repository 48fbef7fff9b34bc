"""The three families of alignment: projections and heads are trained, the teacher stands, losses are swapped."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import losses
from mmkd_jax.core.hyperparams import hyperparams_of
from mmkd_jax.core.objective import combine, total
from mmkd_jax.errors import UserError
from mmkd_jax.methods import feature_alignment, label_alignment, subspace_alignment
from mmkd_jax.nn.connectors import MLP
from tests.methods.trained import everything_learns, first_outputs, gradients
from tests.small import (
    CLASSES,
    advance,
    compiled,
    distil,
    equal,
    gap,
    initialize,
    make_batch,
    make_batches,
    net,
    set_hyperparams,
    stepper,
)

pytestmark = pytest.mark.usefixtures("strict")
BOTH = {"student": "student.embedding", "teacher": "teacher.embedding"}
SIDES, PRESENT = ("student.features.image", "student.features.audio"), ("valid", "present.audio")
SEEING = {"student": net(5, "image", "audio")}


@pytest.mark.slow
@pytest.mark.parametrize("method", [feature_alignment(losses.hint), subspace_alignment(losses.mmd)])
def test_they_teach(method):
    everything_learns(method, BOTH)


def dense(params, x):
    return np.asarray(x, np.float64) @ np.asarray(params["Dense_0"]["kernel"]) + np.asarray(params["Dense_0"]["bias"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "loss", "options"),
    [
        (feature_alignment, losses.cosine, {}),
        (feature_alignment, losses.info_nce, {"temperature": 0.5}),
        (subspace_alignment, losses.coral, {}),
        (subspace_alignment, losses.grassmann, {"dimensions": 2}),
    ],
)
@pytest.mark.parametrize("width", [0, 3])
def test_values(method, loss, options, width):
    outputs = first_outputs()
    objective = method(loss, width=width, weight=0.5, where="present.audio", **options)
    params, state = compiled(objective).init(outputs)
    assert set(params) == ({"student", "teacher"} if width else {"student"})
    assert hyperparams_of(state)["weight"] == 0.5
    found, after = compiled(objective).apply(params, state, outputs)
    s, t = (outputs[p] for p in BOTH.values())
    mask = np.asarray(outputs["batch.present.audio"] & outputs["batch.valid"])
    sides = [dense(params["student"], s), dense(params["teacher"], t) if width else t]
    assert sides[0].shape[1] == (width or 6)
    wanted = loss(*(jnp.asarray(x[mask], jnp.float32) for x in sides), **options)
    ours = found.values[mask] if found.values.ndim else found.values
    np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-6)
    assert np.array_equal(found.where, mask) and jax.tree.structure(after) == jax.tree.structure(state)


def test_a_teachers_projection_is_trained_and_the_teacher_is_not():
    to_params, to_outputs = gradients(subspace_alignment(losses.cca, width=3, r1=0.1, r2=0.1))
    assert all(np.abs(to_params[side]["Dense_0"]["kernel"]).max() > 1e-4 for side in BOTH)
    assert np.abs(to_outputs["student"]["embedding"]).max() > 1e-5
    assert not any(np.any(g) for g in jax.tree.leaves(to_outputs["teacher"]))


def test_another_projection():
    params, _ = feature_alignment(losses.hint, width=4, project=lambda n: MLP(n, hidden=7)).init(first_outputs())
    assert [params[s]["Dense_0"]["kernel"].shape[1] for s in BOTH] == [7, 7]


def test_what_is_refused():
    with pytest.raises(UserError, match="hint is a row-wise loss; use feature_alignment"):
        subspace_alignment(losses.hint)
    with pytest.raises(UserError, match="info_nce has no argument 'temprature'"):
        feature_alignment(losses.info_nce, temprature=0.1)
    with pytest.raises(UserError, match="width is -1; expected a whole number, 0 or more"):
        feature_alignment(losses.hint, width=-1)
    with pytest.raises(UserError, match="give a tuple of two or more paths, one per modality"):
        label_alignment(losses.agreement_kl, ("student.logits",))
    with pytest.raises(UserError, match=r"present is \('valid',\); give a mask for each of 2"):
        label_alignment(losses.agreement_kl, SIDES, present=("valid",))
    with pytest.raises(UserError, match="classes is -2"):
        label_alignment(losses.agreement_kl, SIDES, classes=-2)


def headed(**more):
    """Of heads on the features of two modalities."""
    options: dict[str, Any] = {"classes": CLASSES, "present": PRESENT, "labelled": "labelled"} | more
    return label_alignment(losses.agreement_kl, SIDES, **options)


def test_heads_and_student_learn_to_agree():
    """Both terms move both; ten steps on one batch bring the predictions together; without labels, too."""
    distillation = distil(SEEING, combine(own=headed(weight=3.0)))
    state, frozen = initialize(distillation)
    assert set(hyperparams_of(state.objective_state)) >= {
        "own.agreement.weight",
        "own.agreement.sharpness",
        "own.labels.weight",
    }
    step = stepper(distillation)
    one, *_ = advance(step, state, frozen, make_batches(1))
    assert not equal(one.params["student"]["encoders_image"], state.params["student"]["encoders_image"])
    for name in ("own.agreement.weight", "own.labels.weight"):
        without = set_hyperparams(state, {name: 0.0})
        other, *_ = advance(step, without, frozen, make_batches(1))
        for side in ("student", "objective"):
            assert gap(other.params[side], one.params[side]) > 1e-5
        _, _, terms = advance(step, without, frozen, [make_batch()] * 10)
        kept = name.replace("agreement", "?").replace("labels", "agreement").replace("?", "labels").rpartition(".")[0]
        assert terms[kept][-1] < 0.9 * terms[kept][0]


@pytest.mark.slow
def test_values_of_heads():
    """From the formula; rows without audio say nothing, rows without a label teach no head."""
    batch = make_batch()
    distillation = distil(SEEING, headed(sharpness=2.0))
    state, _frozen = initialize(distillation, batch)
    outputs = look_at(state, batch)
    found, _ = compiled(headed(sharpness=2.0)).apply(state.params["objective"], state.objective_state, outputs)
    heads = state.params["objective"]
    z = [dense(heads[f"connectors_{i}"], outputs[p]) for i, p in enumerate(SIDES)]
    masks = tuple(jnp.asarray(batch[m]) for m in PRESENT)
    z = tuple(jnp.asarray(x, jnp.float32) for x in z)
    wanted = losses.agreement_kl(z, present=masks, sharpness=2.0)
    np.testing.assert_allclose(found["agreement"].values, wanted, rtol=1e-4, atol=1e-6)
    assert np.array_equal(found["agreement"].where, batch["valid"])
    each = np.array([losses.cross_entropy(x, jnp.asarray(batch["label"])) for x in z])
    there = np.array(masks)
    np.testing.assert_allclose(
        found["labels"].values, (each * there).sum(0) / np.maximum(there.sum(0), 1), rtol=1e-4, atol=1e-6
    )
    assert np.array_equal(found["labels"].where, batch["valid"] & batch["labelled"])


def look_at(state, batch):
    """A student's outputs on a batch."""
    outputs = first_outputs(batch=batch)
    model_outputs, _ = SEEING["student"].apply({"params": state.params["student"]}, outputs.batch, outputs.ctx, {})
    return outputs.add(student=model_outputs)


@pytest.mark.full
def test_padding_changes_nothing():
    batch = make_batch()
    state, _ = initialize(distil(SEEING, headed()), batch)
    there = batch["valid"].reshape(-1, 1, 1, 1)
    other = batch | {"image": np.where(there, batch["image"], 9.0).astype(np.float32)}
    values = [
        float(
            total(compiled(headed()).apply(state.params["objective"], state.objective_state, look_at(state, b))[0])[0]
        )
        for b in (batch, other)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-6)


@pytest.mark.slow
def test_logits_need_no_heads():
    outputs = first_outputs()
    paths = ("student.logits", "teacher.logits")
    objective = label_alignment(losses.agreement_jsd, paths, weight=2.0)
    params, state = compiled(objective).init(outputs)
    assert jax.tree.leaves(params) == []
    found, _ = compiled(objective).apply(params, state, outputs)
    np.testing.assert_allclose(
        found["agreement"].values, losses.agreement_jsd(tuple(outputs[p] for p in paths)), rtol=1e-6
    )
