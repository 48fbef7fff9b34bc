"""A training whose student begins with a part of what the teacher before it learned."""

import dataclasses
from typing import Any

import jax
import numpy as np
import optax
import pytest

from mmkd_jax import data, losses
from mmkd_jax.core.model import StepContext, linen
from mmkd_jax.core.objective import combine, term
from mmkd_jax.core.state import init_state
from mmkd_jax.core.step import make_step
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import definition, description
from mmkd_jax.models import Bert, Encoders, Multimodal, TransformerConfig
from mmkd_jax.pretrained import initial
from mmkd_jax.pretrained.inheritance import Inheritance
from mmkd_jax.pretrained.origins import SubNetwork
from mmkd_jax.pretrained.selection import head_norms
from mmkd_jax.tasks import classification
from mmkd_jax.training.init_from import PretrainedVariables
from mmkd_jax.training.roles import Frozen, Trained
from mmkd_jax.training.training import Training
from tests.small import equal

CONFIGS = TransformerConfig(16, 3, num_heads=4, mlp_dim=12), TransformerConfig(8, 2, num_heads=2, mlp_dim=12)
BIG, SMALL = ({"text": Bert(9, config, length=6)} for config in CONFIGS)
KEEP = SubNetwork((0, 2), head_norms, embed_dim=range(8))


def trainings(student=None, teacher=None) -> dict[str, Training]:
    """The teacher's training, and the student's; with fields of the roles of both changed."""
    ids = np.random.default_rng(0).integers(0, 9, (16, 6)).astype(np.int32)
    columns = {"text.ids": ids, "text.mask": np.ones((16, 6), bool), "label": (ids[:, 0] > 4).astype(np.int32)}
    task, rows = classification(2), data.InMemory(data.from_columns(columns, "made-up"), 8)
    nets = {"teacher": linen(Multimodal(BIG, 2, 8)), "student": linen(Multimodal(SMALL, 2, 8))}
    shared = {"task": task, "data": rows, "validation": rows, "test": rows, "steps": 3, "optimizer": optax.sgd(0.1)}
    soft = term(losses.kl, student="student.logits", teacher="teacher.logits")
    source: dict[str, Any] = {"init_from": "teacher.teacher"}
    layers: dict[str, Any] = {"layers": Inheritance(Encoders(SMALL), Encoders(BIG), {"text": KEEP})}
    models = {
        "teacher": Frozen(nets["teacher"], **source | (teacher or {})),
        "student": Trained(nets["student"], **source | layers | (student or {})),
    }
    objective = combine(task=task.objective("teacher"))
    return {
        "teacher": Training({"teacher": Trained(nets["teacher"])}, objective, **shared),
        "student": Training(models, combine(soft=soft), **shared),
    }


@pytest.mark.slow
def test_the_student_begins_with_what_it_inherits_and_learns_from_there():
    own = trainings()
    definition.check(own, {})
    training, key = own["student"], jax.random.key(5)
    batch = {k: np.zeros(s.shape, s.dtype) for k, s in training.spec.items()}
    ctx = StepContext(0, key)
    teacher, fresh = (training.networks[n].init(ctx.at(n).key, batch) for n in ("teacher", "student"))
    given = {"teacher": teacher, "student": teacher}
    state, frozen = jax.jit(lambda key, given: init_state(training.distillation, training.spec, key, given))(key, given)
    expected = training.layers["student"](fresh, teacher)["params"]
    assert equal(state.params["student"], expected)
    assert equal(state.params["student"]["Classifier_0"], fresh["params"]["Classifier_0"])  # of this run's own key
    queries = [p["encoders_text"]["transformer"]["layer_1"]["query"]["kernel"] for p in (expected, fresh["params"])]
    assert np.abs(queries[0] - queries[1]).max() > 0.1
    batch = next(iter(training.data.eval_batches()))
    after, _ = jax.jit(make_step(training.distillation))(state, frozen, batch)
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), after.params["student"], expected)
    left = {jax.tree_util.keystr(p, simple=True) for p, x in jax.tree.leaves_with_path(moved) if not x}
    assert all("key" in name and "bias" in name for name in left), left  # the softmax takes no notice of that one
    assert equal(frozen["teacher"], teacher)


@pytest.mark.slow
def test_what_is_inherited_may_come_from_outside():
    given = PretrainedVariables(initial(Encoders(BIG), jax.random.key(3)), ("a pretrained bert",))
    own = trainings({"init_from": given})
    definition.check(own, {})
    training, key = own["student"], jax.random.key(5)
    teacher = training.networks["teacher"].init(key, {k: np.zeros(s.shape, s.dtype) for k, s in training.spec.items()})
    state, _ = init_state(training.distillation, training.spec, key, {"teacher": teacher, "student": given.variables})
    kernels = [
        tree["encoders_text"]["transformer"][f"layer_{i}"]["grow"]["kernel"]
        for tree, i in ((state.params["student"], 1), (given.variables["params"], 2))
    ]
    np.testing.assert_array_equal(kernels[0], kernels[1][:8])
    said = description.text(own)
    assert "from a pretrained bert" in said and "  layers      student: text layer_1 <- layer_2, heads 2" in said


@pytest.mark.slow
def test_explain_says_what_is_taken_from_where():
    said = description.text(trainings())
    assert "  model       student: " in said and "trained, from teacher.teacher" in said
    for layer, source in ((0, 0), (1, 2)):
        line = f"text layer_{layer} <- layer_{source}, heads 2 of 4 by head_norms, embed_dim 0…7 of 16"
        assert f"  layers      student: {line}" in said.splitlines()
    assert "  layers      student: text left to the teacher: layer_1" in said.splitlines()


def test_what_cannot_be_inherited_is_named_before_anything_runs():
    with pytest.raises(UserError, match="Trained: layers requires init_from to name a model: give both"):
        trainings({"init_from": None})
    with pytest.raises(UserError, match="layers and cache are mutually exclusive"):
        trainings(teacher={"cache": ("logits",), "layers": Inheritance(Encoders(BIG), Encoders(BIG))})
    other = {"text": dataclasses.replace(BIG["text"], config=dataclasses.replace(CONFIGS[0], num_layers=2))}
    with pytest.raises(
        UserError, match=r"training 'student': the teacher's variables have \[9, 16\] at params/encoders_text/tok"
    ):
        wide = Encoders({"text": dataclasses.replace(BIG["text"], vocabulary=10)})
        keep = dataclasses.replace(KEEP, vocabulary=range(9))
        definition.check(trainings({"layers": Inheritance(Encoders(SMALL), wide, {"text": keep})}), {})
    with pytest.raises(UserError, match="text: layers selects 2; the teacher has 2"):
        Inheritance(Encoders(SMALL), Encoders(other), {"text": KEEP})
