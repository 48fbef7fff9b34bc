"""SimKD: the student answers through its teacher's classifier, which nobody trains."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmkd_jax import data, losses
from mmkd_jax.core.model import StepContext, linen
from mmkd_jax.core.objective import combine, term
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import definition, description, runner, saved
from mmkd_jax.models import Classifier, ImageCNN, Multimodal, simkd
from mmkd_jax.tasks import classification
from mmkd_jax.training.roles import Frozen, Trained
from mmkd_jax.training.training import Training
from tests.methods.stages import cnn, pictures
from tests.small import CLASSES, advance, applied, distil, equal, gap, initialize, on_device, stepper

TEACHER, OWN = cnn(6, 7, width=8), cnn(4, 5, width=5)
STUDENTS = {
    "rows": simkd(OWN, Classifier(CLASSES), width=8),
    "maps": simkd(OWN, Classifier(CLASSES), reads="hidden.image.0", size=(3, 3), width=8),
}
BATCH = on_device(pictures())


def ready(student):
    variables = jax.jit(student.init)(jax.random.key(0), BATCH)
    head = jax.jit(TEACHER.init)(jax.random.key(1), BATCH)["params"]["Classifier_0"]
    return variables | {"head": head}


def run(student, variables, train=False, patch=None):
    return applied(student, variables, BATCH, StepContext(0, jax.random.key(2), train), patch or {})


@pytest.mark.full
@pytest.mark.parametrize("kind", STUDENTS)
def test_the_teachers_classifier_reads_the_projection(kind, strict):
    student, variables = STUDENTS[kind], ready(STUDENTS[kind])
    outputs, state = jax.jit(lambda v: run(student, v))(variables)
    assert state == {} and outputs["projected"].shape == {"rows": (16, 8), "maps": (16, 3, 3, 8)}[kind]
    head = variables["head"]["Dense_0"]
    pooled = outputs["projected"].reshape(16, -1, 8).mean(1)
    np.testing.assert_allclose(outputs["logits"], pooled @ head["kernel"] + head["bias"][None], rtol=1e-4, atol=1e-5)
    own = run(OWN, {"params": variables["params"]["student"], **variables["state"]["student"]})[0]
    assert all(np.allclose(outputs[k], x, atol=1e-5) == (k != "logits") for k, x in own.items())
    assert float(outputs["projected"].min()) == 0  # as the teacher's features, it comes out of a ReLU


@pytest.mark.full
def test_statistics_move_in_training_and_the_classifier_does_not():
    student, variables = STUDENTS["maps"], ready(STUDENTS["maps"])
    _, state = jax.jit(lambda v: run(student, v, train=True))(variables)
    assert jax.tree.structure(state) == jax.tree.structure({k: variables[k] for k in ("state", "head")})
    for new, old in zip(jax.tree.leaves(state["state"]), jax.tree.leaves(variables["state"]), strict=True):
        assert np.any(new != old)
    assert equal(state["head"], variables["head"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", STUDENTS)
def test_every_output_is_patched_and_reaches_what_follows(kind):
    student, variables = STUDENTS[kind], ready(STUDENTS[kind])
    plain = run(student, variables)[0]

    @jax.jit
    def patched():
        same = {n: run(student, variables, patch={n: plain[n]})[0] for n in plain}
        return same, {n: run(student, variables, patch={n: plain[n] + 1})[0]["logits"] for n in plain}

    same, other = patched()
    reached = {n for n, logits in other.items() if gap(logits, plain["logits"]) > 1e-6}
    above = {"rows": set(), "maps": {"preactivation.image.1", "hidden.image.1", "features.image", "embedding"}}[kind]
    assert reached == set(plain) - above
    for n in plain:
        assert gap(same[n], plain) < 1e-5, n
    with pytest.raises(UserError, match="no such output; it has"):
        run(student, variables, patch={"hidden": jnp.zeros(1)})


def distillation(student=STUDENTS["rows"], target="teacher.embedding"):
    loss = term(losses.simkd, student="student.projected", teacher=target)
    return distil({"student": student, "teacher": TEACHER}, combine(features=loss))


@pytest.mark.full
def test_ten_steps():
    """Features alone are learned; the classifier stays the teacher's, bit for bit."""
    teacher = jax.jit(TEACHER.init)(jax.random.key(1), BATCH)
    head = teacher["params"]["Classifier_0"]
    what, batch = distillation(), pictures()
    state, frozen = initialize(what, batch, variables={"teacher": teacher, "student.head": head})
    last, values, _ = advance(stepper(what), state, frozen, [batch] * 10)
    assert values[-1] < 0.9 * values[0] and equal(frozen["teacher"], teacher)
    assert set(state.params["student"]) == {"student", "projector"}
    assert equal(last.model_state["student"]["head"], head)
    assert gap(last.params["student"]["projector"], state.params["student"]["projector"]) > 1e-3
    moved: dict[str, float] = {
        n: gap(last.params["student"]["student"][n], x) for n, x in state.params["student"]["student"].items()
    }
    assert moved["encoders_image"] > 1e-3 and moved["Classifier_0"] == 0


@pytest.mark.slow
def test_maps_are_learned_in_the_teachers_size():
    student = simkd(OWN, Classifier(CLASSES), reads="hidden.image.0", size=(4, 4), width=7)
    what, batch = distillation(student, "teacher.hidden.image.1"), pictures()
    state, frozen = initialize(what, batch)
    _, values, _ = advance(stepper(what), state, frozen, [batch] * 10)
    assert values[-1] < 0.9 * values[0]


def test_a_head_of_another_size_and_a_wrong_path_are_refused():
    teacher = jax.jit(TEACHER.init)(jax.random.key(1), BATCH)
    with pytest.raises(UserError, match="'student.head' have shapes .*expected"):
        initialize(distillation(), pictures(), variables={"student.head": teacher["params"]["Dense_0"]})
    with pytest.raises(UserError, match="no 'tail' in 'student.tail'; there are: head, params, state"):
        initialize(distillation(), pictures(), variables={"student.tail": teacher["params"]["Dense_0"]})
    with pytest.raises(UserError, match="simkd: the student has no output 'hidden'; it has: embedding"):
        simkd(OWN, Classifier(CLASSES), reads="hidden", width=8).init(jax.random.key(0), BATCH)


@dataclasses.dataclass(frozen=True)
class Config:
    """Tiny."""

    seeds: int = 1


def trainings(config, init_from={"head": "teacher.teacher.params.Classifier_0"}):  # noqa: B006
    draw = np.random.default_rng(0)
    label = (np.arange(48) % 3).astype(np.int32)
    image = draw.normal(size=(48, 4, 4, 1)) + 2 * label[:, None, None, None]
    rows = data.from_columns({"image": image.astype(np.float32), "label": label}, "made-up")
    task, every = classification(CLASSES), data.InMemory(rows, 16)
    teacher, small = (linen(Multimodal({"image": ImageCNN(w)}, CLASSES, w[-1])) for w in ((6, 8), (4,)))
    shared: dict[str, Any] = {
        "task": task,
        "data": every,
        "validation": data.InMemory(rows, 20),
        "test": data.InMemory(rows, 20),
    }
    shared |= {"optimizer": optax.adam(1e-2), "steps": 300, "evaluate_every": 100}
    student = Trained(simkd(small, Classifier(CLASSES), width=8), init_from=init_from)
    answers = Frozen(teacher, init_from="teacher.teacher", cache=("embedding",))
    reused = term(losses.simkd, student="student.projected", teacher="teacher.embedding")
    return {
        "teacher": Training({"teacher": Trained(teacher)}, combine(task=task.objective("teacher")), **shared),
        "student": Training({"student": student, "teacher": answers}, reused, **shared),
    }


@pytest.mark.slow
def test_in_an_experiment(tmp_path):
    """The classifier comes from the part that trained the teacher; the student never sees a label, and answers."""
    tiny = definition.Experiment("tiny", Config(), trainings, None, None, "")
    results = runner.run(
        tiny,
        Config(),
        options=runner.RunOptions(out=tmp_path / "run"),
        callbacks=runner.Callbacks(log=lambda line: None),
    )
    ends = {
        name: saved.load_variables(tmp_path / "run", training, name, 0)[name]
        for name, training in trainings(Config()).items()
    }
    assert equal(ends["student"]["head"], ends["teacher"]["params"]["Classifier_0"])
    assert results["student"][0]["accuracy"] > 0.6


def test_explain_says_whose_classifier_it_is():
    text = description.text(trainings(Config()))
    assert "trained, head from teacher.teacher.params.Classifier_0" in text
    assert "frozen, cached (embedding): run once, 0.0 MiB on disk, from teacher.teacher" in text


@pytest.mark.parametrize(
    ("init_from", "message"),
    [
        ({}, r"model 'student' does not define head: give it the variables"),
        ({"head": "teacher.teacher.params.Head"}, "no 'Head' in 'params.Head'; there are: Classifier_0"),
        ({"head": "teacher.teacher.params.Dense_0"}, "'student.head' have shapes"),
        ({"head": "teacher.student.params.Dense_0"}, "not a model of an earlier training: teacher.teacher"),
    ],
    ids=["none", "no such part", "another shape", "no such model"],
)
def test_what_is_missing_is_said_before_anything_is_trained(init_from, message):
    wrong = trainings(Config(), init_from)
    with pytest.raises(UserError, match=message):
        definition.check(wrong, {})


def test_its_logits_have_the_classes_of_the_teachers_classifier():
    """The order of the student's own classes is not that of the classifier, which no file or variable tells."""
    own = OWN._replace(labels=("c", "b", "a"), problem="multi_label_classification", class_outputs=("logits", "early"))
    plain = simkd(own, Classifier(CLASSES), width=8)
    assert (plain.labels, plain.problem, plain.class_outputs) == ((), "", ("logits",))
    named = simkd(own, Classifier(CLASSES), width=8, labels=own.labels, problem="single_label_classification")
    assert (named.labels, named.problem) == (own.labels, "single_label_classification")
    assert named.class_outputs == ("logits", "early")


def test_a_classifier_of_a_teacher_with_other_names_needs_names():
    training = trainings(Config())["student"]
    rows = data.from_columns(training.data.dataset.columns, "named", ("a", "b", "c"))
    loader = data.InMemory(rows, 16)
    student, teacher = training.models["student"], training.models["teacher"]
    assert isinstance(student, Trained) and isinstance(teacher, Frozen)
    models = {"student": student, "teacher": dataclasses.replace(teacher, labels=("c", "a", "b"))}
    training = dataclasses.replace(training, models=models, data=loader, validation=loader, test=loader)
    with pytest.raises(UserError, match="'student' takes variables of another model, .* of 'teacher' are c, a, b"):
        training.abstract()
    named = dataclasses.replace(student, labels=("c", "a", "b"))
    assert dataclasses.replace(training, models=models | {"student": named}).abstract()
