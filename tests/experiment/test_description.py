"""What an experiment will do, read off shapes."""

import dataclasses

import optax
import pytest

import mmkd_jax as mmkd
from mmkd_jax import cli, losses, methods
from mmkd_jax.adversarial import PGD
from mmkd_jax.core.objective import combine, term
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import description
from mmkd_jax.nn.connectors import Linear
from tests import tiny_experiment
from tests.small import with_role

STUDENT = tiny_experiment.trainings(tiny_experiment.config)["student"]
TRAINING = dataclasses.replace(
    STUDENT,
    objective=combine(
        hint=term(
            losses.hint,
            student="student.features.image",
            teacher="teacher.features.image",
            connect={"student": Linear(8)},
            weight=optax.linear_schedule(1.0, 0.0, 10),
        ),
        robust=methods.rslad("image", attack=PGD(eps=0.25, steps=2)),
    ),
)


def test_description():
    d = description.describe(TRAINING, {"robust.attack.step_size": 0.5})
    role, size, outputs = d.models["student"]
    assert role == "trained, initialized at random" and size == (9 * 4 + 4) + (4 * 4 + 4) + (4 * 3 + 3)
    assert outputs["logits"].shape == (16, 3)
    assert d.models["teacher"][0] == "frozen, from teacher.teacher"
    assert d.terms["hint"] == (["student.features.image", "teacher.features.image"], {})
    assert d.terms["robust.clean"][0] == ["student.logits", "teacher.logits"]
    assert d.hyperparams == {"robust.attack.eps": 0.25, "robust.attack.step_size": 0.5}
    assert d.passes == {"student": 2}  # the attack's loop counts once, and the pass on what it found
    assert d.extra == 4 * 8 + 8


def test_cached_teacher_is_said_to_be_run_once():
    training = with_role(STUDENT, "teacher", cache=("logits",))
    said = description.text({"student": training})
    assert "frozen, cached (logits): run once, 0.0 MiB on disk, from teacher.teacher" in said and "passes" not in said


def test_text_names_everything():
    said = description.text({"student": TRAINING})
    for piece in (
        "rows, classification",
        "weight: a schedule",
        "hyperparams robust.attack.eps 0.25",
        "student 2 extra",
        "40 param",
    ):
        assert piece in said, said


def test_a_classifier_that_nothing_trains_is_noted():
    hint = term(losses.hint, student="student.embedding", teacher="teacher.embedding", connect={"student": Linear(8)})
    said = description.text({"student": dataclasses.replace(STUDENT, objective=combine(hint=hint))})
    assert "no term reads student.logits" in said
    assert "no term reads" not in description.text({"student": TRAINING})


@pytest.mark.full
def test_explain_prints_what_the_command_prints(capsys):
    with pytest.raises(SystemExit):
        cli.main(["explain", "experiments/av_digits.py", "--objective.soft.weight", "0.5"])
    experiment = mmkd.experiment.load("experiments/av_digits.py")
    expected = mmkd.experiment.explain(experiment, hyperparams={"objective.soft.weight": 0.5})
    assert "weight 0.5" in expected and capsys.readouterr().out.strip() == expected


def test_variables_of_a_training_that_has_not_finished(tmp_path):
    with pytest.raises(UserError, match="training 'kd' has not finished with seed 1"):
        mmkd.experiment.load_variables(tmp_path, TRAINING, "kd", 1)
