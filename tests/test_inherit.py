"""A part whose student begins with a part of what the teacher before it learned."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from mmkd_jax import data, experiment, explain, losses
from mmkd_jax.errors import UserError
from mmkd_jax.given import Given
from mmkd_jax.models import Bert, Encoders, Multimodal
from mmkd_jax.objective import combine, term
from mmkd_jax.part import Part
from mmkd_jax.pretrained import initial
from mmkd_jax.pretrained.inheritance import Inheritance
from mmkd_jax.pretrained.origins import Keep
from mmkd_jax.pretrained.selection import head_norms
from mmkd_jax.state import start
from mmkd_jax.step import make_step
from mmkd_jax.tasks import classification
from mmkd_jax.views import Context, linen
from tests.small import equal

BIG, SMALL = ({"text": Bert(9, w, n, w // 4, 12, 6)} for w, n in ((16, 3), (8, 2)))
KEEP = Keep((0, 2), head_norms, width=range(8))


def parts(**changes) -> dict[str, Part]:
    ids = np.random.default_rng(0).integers(0, 9, (16, 6)).astype(np.int32)
    columns = {"text.ids": ids, "text.mask": np.ones((16, 6), bool), "label": (ids[:, 0] > 4).astype(np.int32)}
    task, rows = classification(2), data.Memory(data.from_columns(columns, "made-up"), 8)
    nets = {"teacher": linen(Multimodal(BIG, 2, 8)), "student": linen(Multimodal(SMALL, 2, 8))}
    shared = {"task": task, "data": rows, "validation": rows, "test": rows, "steps": 3, "optimizer": optax.sgd(0.1)}
    teacher = {"models": {"teacher": nets["teacher"]}, "trained": ("teacher",)}
    soft = term(losses.kl, student="student.logits", teacher="teacher.logits")
    student = {
        "models": nets,
        "objective": combine(soft=soft),
        "take": {"teacher": "teacher.teacher", "student": "teacher.teacher"},
        "inherit": {"student": Inheritance(Encoders(SMALL), Encoders(BIG), {"text": KEEP})},
    }
    return {
        "teacher": Part(objective=combine(task=task.objective("teacher")), **teacher, **shared),
        "student": Part(**shared | student | changes),
    }


def test_the_student_begins_with_what_it_inherits_and_learns_from_there():
    own = parts()
    experiment.check(own, {})
    part, key = own["student"], jax.random.key(5)
    batch = {k: np.zeros(s.shape, s.dtype) for k, s in part.spec.items()}
    ctx = Context(0, key)
    teacher, fresh = (part.models[n].init(ctx.at(n).key, batch) for n in ("teacher", "student"))
    given = {"teacher": teacher, "student": teacher}
    state, frozen = jax.jit(lambda key, given: start(part.distillation, part.spec, key, given))(key, given)
    expected = part.inherit["student"](fresh, teacher)["params"]
    assert equal(state.params["student"], expected)
    assert equal(state.params["student"]["Classifier_0"], fresh["params"]["Classifier_0"])  # of this run's own key
    queries = [p["encoders_text"]["transformer"]["layer_1"]["query"]["kernel"] for p in (expected, fresh["params"])]
    assert np.abs(queries[0] - queries[1]).max() > 0.1
    batch = next(iter(part.data.once()))
    after, _ = jax.jit(make_step(part.distillation))(state, frozen, batch)
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), after.params["student"], expected)
    left = {jax.tree_util.keystr(p, simple=True) for p, x in jax.tree.leaves_with_path(moved) if not x}
    assert all("key" in name and "bias" in name for name in left), left  # the softmax takes no notice of that one
    assert equal(frozen["teacher"], teacher)


def test_what_is_inherited_may_come_from_outside():
    given = Given(initial(Encoders(BIG), jax.random.key(3)), ("a pretrained bert",))
    own = parts(take={"teacher": "teacher.teacher", "student": given})
    experiment.check(own, {})
    part, key = own["student"], jax.random.key(5)
    teacher = part.models["teacher"].init(key, {k: np.zeros(s.shape, s.dtype) for k, s in part.spec.items()})
    state, _ = start(part.distillation, part.spec, key, {"teacher": teacher, "student": given.variables})
    kernels = [
        tree["encoders_text"]["transformer"][f"layer_{i}"]["grow"]["kernel"]
        for tree, i in ((state.params["student"], 1), (given.variables["params"], 2))
    ]
    np.testing.assert_array_equal(kernels[0], kernels[1][:8])
    said = explain.text(own)
    assert "from a pretrained bert" in said and "  begins    student: text layer_1 <- layer_2, heads 2" in said


def test_explain_says_what_is_taken_from_where():
    said = explain.text(parts())
    assert "  model     student: " in said and "trained, from teacher.teacher" in said
    for layer, source in ((0, 0), (1, 2)):
        line = f"  begins    student: text layer_{layer} <- layer_{source}, heads 2 of 4 by head_norms, width 0…7 of 16"
        assert line in said.splitlines()
    assert "  begins    student: text left to the teacher: layer_1" in said.splitlines()


def test_what_cannot_be_inherited_is_named_before_anything_runs():
    with pytest.raises(UserError, match="inherit names student, no model that takes variables: say whose"):
        parts(take={"teacher": "teacher.teacher"})
    with pytest.raises(UserError, match="inherit names teacher, which is cached or a moving average"):
        parts(cache={"teacher": ("logits",)}, inherit={"teacher": Inheritance(Encoders(BIG), Encoders(BIG))})
    other = {"text": dataclasses.replace(BIG["text"], layers=2)}
    with pytest.raises(UserError, match=r"part 'student': given variables have \[9, 16\] at params/encoders_text/tok"):
        wide = Encoders({"text": dataclasses.replace(BIG["text"], vocabulary=10)})
        keep = dataclasses.replace(KEEP, vocabulary=range(9))
        experiment.check(parts(inherit={"student": Inheritance(Encoders(SMALL), wide, {"text": keep})}), {})
    with pytest.raises(UserError, match="text: layers 2 of the teacher's 2"):
        Inheritance(Encoders(SMALL), Encoders(other), {"text": KEEP})
