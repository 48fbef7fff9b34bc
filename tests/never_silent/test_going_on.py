"""Going on with a run: new trainings, changed ones, longer ones, and what depends on them."""

import dataclasses
import json
import shutil
from typing import Any

import jax.numpy as jnp
import optax
import pytest

from mmkd_jax import files, losses
from mmkd_jax.core.model import plain
from mmkd_jax.core.objective import term
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import Callbacks, RunOptions, run
from mmkd_jax.training import loop
from mmkd_jax.training.roles import Frozen, Trained
from tests.never_silent.setting import Config, columns, experiment, loader, model, teacher_and_student, train


def results(folder):
    return {(r["training"], r["seed"]): r for r in json.loads((folder / "results.json").read_text())["rows"]}


def longer(training, steps=8):
    return dataclasses.replace(training, steps=steps)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(folder, teacher_and_student())
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def test_a_new_training_trains_alone(folder):
    """A training is added to a finished experiment → it alone is trained, without a flag."""
    before, lines = results(folder), []
    trainings = teacher_and_student()
    train(folder, trainings | {"kd_fast": dataclasses.replace(trainings["kd"], optimizer=optax.sgd(0.5))}, lines=lines)
    assert sum("finished earlier" in line for line in lines) == 2
    assert results(folder).items() >= before.items() and ("kd_fast", 0) in results(folder)


def test_a_changed_training_is_refused_by_field(folder):
    """A training of a finished experiment is changed → refused before anything is trained, naming the field."""
    trainings = teacher_and_student()
    with pytest.raises(UserError, match=r"'kd' \(seed 0\): steps: 4 there, 8 now. Revert.*lengthen it \(--extend\)"):
        train(folder, trainings | {"kd": longer(trainings["kd"])})


def test_what_takes_from_a_changed_training_is_refused_by_name(folder):
    """A teacher is changed and trained again → its student, trained from the old one, is refused by name."""
    trainings = teacher_and_student()
    trainings["teacher"] = dataclasses.replace(trainings["teacher"], optimizer=optax.sgd(0.5))
    shutil.rmtree(folder / "trainings" / "teacher")
    with pytest.raises(UserError, match="'kd' .seed 0.: init_from teacher: 'teacher.teacher' was changed or trained"):
        train(folder, trainings)
    assert not (folder / "trainings" / "teacher").exists()
    shutil.rmtree(folder / "trainings" / "kd")
    train(folder, trainings)


def test_a_removed_training_is_trained_again(folder):
    """The folder of a training is removed → trained again to the same bits, and its student is not."""
    before, lines = results(folder), []
    shutil.rmtree(folder / "trainings" / "teacher")
    train(folder, teacher_and_student(), lines=lines)
    assert results(folder) == before and any(line.startswith("kd, seed 0") and "earlier" in line for line in lines)


def test_lengthened(folder, tmp_path):
    """`--extend` with more steps → resumes from the last checkpoint, and is marked in the table and results."""
    trainings, lines = teacher_and_student(), []
    trainings["kd"] = dataclasses.replace(trainings["kd"], steps=8, evaluate_every=2, patience=8)
    train(folder, trainings, options=RunOptions(extend=True), lines=lines)
    assert any(line == "kd, seed 0: resuming from step 2" for line in lines), lines
    row = results(folder)["kd", 0]
    assert row["steps"] == 8 and row["changed_at"] == [2] and "changed_at" not in results(folder)["teacher", 0]
    table = (folder / "table.txt").read_text()
    assert (
        "kd, seed 0: its first 2 steps were made before a change (patience: None there, 8 now; steps: 4 there, 8 now)"
        in table
    )
    assert "steps: teacher 4, kd 8" in table
    assert (folder / "trainings" / "kd" / "0" / "result.json.4_steps").is_file()
    train(tmp_path / "whole", trainings)  # with a constant schedule, as if it had been as long from the start
    assert results(tmp_path / "whole")["kd", 0]["variables"] == row["variables"]
    train(folder, trainings)  # no flag is needed any more


def test_a_lengthened_teacher_makes_its_student_stale(folder):
    """`--extend` lengthens a teacher → its finished student is refused by name, before anything is trained."""
    trainings = teacher_and_student()
    trainings["teacher"] = longer(trainings["teacher"])
    with pytest.raises(UserError, match="'kd' .seed 0.: init_from teacher: 'teacher.teacher' was changed"):
        train(folder, trainings, options=RunOptions(extend=True))
    assert (folder / "trainings" / "teacher" / "0" / "result.json").is_file()


def test_extend_allows_no_other_change(folder):
    """`--extend` and a changed loss → refused; the optimizer, whose schedule depends on the steps, may differ."""
    trainings = teacher_and_student()
    changed = dataclasses.replace(trainings["kd"], objective=trainings["kd"].task.objective("student"), steps=8)
    with pytest.raises(UserError, match="its .*loss changed"):
        train(folder, trainings | {"kd": changed}, options=RunOptions(extend=True))
    train(folder, trainings | {"kd": longer(dataclasses.replace(trainings["kd"], optimizer=optax.sgd(0.2)))},
          options=RunOptions(extend=True))  # fmt: skip


def test_what_was_accepted_needs_no_flag_again(folder):
    """A result is kept with `--allow-changed-code` → the next run needs no flag, but another change does."""
    trainings = teacher_and_student()
    changed = [trainings | {"kd": dataclasses.replace(trainings["kd"], optimizer=optax.sgd(lr))} for lr in (0.3, 0.4)]
    train(folder, changed[0], options=RunOptions(allow_changed_code=True))
    train(folder, changed[0])
    assert "kd, seed 0: made before a change of code" in (folder / "table.txt").read_text()
    with pytest.raises(UserError, match="'kd' .seed 0.: its optimizer changed"):
        train(folder, changed[1])


def test_a_chain_of_trainings_is_made_again_from_its_start(tmp_path):
    """The first two of a chain of trainings are removed → trained again to the same bits; the last one is kept."""
    trainings, lines = teacher_and_student(), []
    trainings["last"] = dataclasses.replace(
        trainings["kd"], models={"teacher": Frozen(model(), init_from="kd.student"), "student": Trained(model())}
    )
    train(tmp_path / "run", trainings)
    before = results(tmp_path / "run")
    for name in ("teacher", "kd"):
        shutil.rmtree(tmp_path / "run" / "trainings" / name)
    train(tmp_path / "run", trainings, lines=lines)
    assert results(tmp_path / "run") == before and any("last" in x and "finished earlier" in x for x in lines)


def test_a_changed_hyperparameter_takes_effect_on_resuming(tmp_path):
    """A stopped training is resumed with another temperature and `--allow-changed-settings` → trained with it."""

    def kd(temperature):
        soft = term(losses.kl, student="student.logits", teacher="teacher.logits", temperature=temperature)
        made = teacher_and_student(steps=8)
        return {"teacher": made["teacher"], "kd": dataclasses.replace(made["kd"], objective=soft)}

    folder = tmp_path / "run"
    stop = Callbacks(log=lambda line: None, should_stop=lambda: (folder / "trainings/kd/0/checkpoints/2").exists())
    with pytest.raises(loop.Interrupted):
        run(experiment(kd(1.0)), options=RunOptions(folder), callbacks=stop)
    shutil.copytree(folder, tmp_path / "other")
    train(folder, kd(1.0))
    train(tmp_path / "other", kd(8.0), options=RunOptions(allow_changed_settings=True))
    same, other = (results(f)["kd", 0]["variables"] for f in (folder, tmp_path / "other"))
    assert same != other and "objective.temperature: 1.0 there, 8.0 now" in (tmp_path / "other/table.txt").read_text()


@pytest.mark.parametrize("aspect", ["code", "settings", "data", "sources"])
def test_one_flag_for_each_aspect(folder, aspect):
    """Another aspect than the one that `--allow-changed-…` names has changed → refused."""
    trainings = teacher_and_student()
    kd = trainings["kd"]
    teacher = Frozen(model(), init_from="more.teacher")
    changes: dict[str, Any] = {
        "code": {"optimizer": optax.sgd(0.3)},
        "settings": {"evaluate_every": 1},
        "data": {"test": loader(columns(x=columns()["x"] + 1))},
        "sources": {"models": {**kd.models, "teacher": teacher}},
    }
    more = {"more": trainings["teacher"]} if aspect == "sources" else {}
    trainings = {"teacher": trainings["teacher"], **more, "kd": dataclasses.replace(kd, **changes[aspect])}
    others: Any = {f"allow_changed_{a}": True for a in ("code", "settings", "data", "sources") if a != aspect}
    only: Any = {f"allow_changed_{aspect}": True}
    with pytest.raises(UserError, match=f"'kd' .seed 0.*--allow-changed-{aspect}"):
        train(folder, trainings, options=RunOptions(**others))
    train(folder, trainings, options=RunOptions(**only))
    assert f"kd, seed 0: made before a change of {aspect}" in (folder / "table.txt").read_text()


def test_a_resumed_training_is_compared_too(tmp_path):
    """A stopped training is resumed after a change → refused before the trainings in front of it train."""
    seen = []
    trainings = teacher_and_student(steps=8)

    def stop():
        seen.append(1)
        return len(seen) > 3

    quiet = {"log": lambda line: None, "should_stop": stop}
    with pytest.raises(loop.Interrupted):
        run(
            experiment({"teacher": trainings["teacher"]}),
            options=RunOptions(tmp_path / "run"),
            callbacks=Callbacks(**quiet),
        )
    changed = dataclasses.replace(trainings["teacher"], optimizer=optax.sgd(0.3))
    with pytest.raises(UserError, match=r"'teacher' \(seed 0\): its optimizer changed"):
        train(tmp_path / "run", {"first": trainings["teacher"], "teacher": changed})
    assert not (tmp_path / "run" / "trainings" / "first").exists()


def test_a_baseline_for_each_training(tmp_path):
    """`baseline = {training: its baseline}` → each difference names what it is against; another task's is refused."""
    trainings = teacher_and_student()
    trainings["kd2"] = dataclasses.replace(trainings["kd"], steps=6)
    train(tmp_path / "run", trainings, baseline={"kd": "teacher", "kd2": "kd"})
    rows = json.loads((tmp_path / "run" / "table.json").read_text())["rows"]
    assert [r["baseline"] for r in rows] == [None, "teacher", "kd"]
    by_name = {r["training"]: r for r in rows}
    assert by_name["kd2"]["difference"] == pytest.approx(by_name["kd2"]["mean"] - by_name["kd"]["mean"])
    assert "(kd)" in (tmp_path / "run" / "table.txt").read_text()
    other = dataclasses.replace(trainings["teacher"], task=trainings["teacher"].task._replace(name="another"))
    with pytest.raises(UserError, match="baseline 'other' of 'kd' has another task"):
        train(tmp_path / "two", {"other": other, **trainings}, baseline={"kd": "other"})


def test_the_configuration_is_that_of_the_results(folder):
    """`config.json` → lists which results each configuration has made."""
    made = files.read_json(folder / "config.json")["configurations"]
    assert [each["results"] for each in made] == [["teacher/0", "kd/0"]]


def test_other_shapes_are_refused_before_anything_trains(tmp_path):
    """`--allow-changed-code` and a checkpoint of other shapes → refused by leaf before any training goes on."""
    trainings = teacher_and_student()
    seen: list[str] = []
    callbacks = Callbacks(
        log=lambda line: None,
        on_metrics=lambda name, seed, row: seen.append(name),
        should_stop=lambda: "kd" in seen,
    )
    with pytest.raises(loop.Interrupted, match="training 'kd', seed 0: "):
        run(experiment(trainings), options=RunOptions(out=tmp_path), callbacks=callbacks)
    wide = plain(
        lambda p, b: {"logits": b["x"] @ p["w"] @ p["v"]}, lambda key, b: {"w": jnp.ones((4, 5)), "v": jnp.ones((5, 3))}
    )
    roles = {**trainings["kd"].models, "student": Trained(wide)}
    trainings["kd"] = dataclasses.replace(trainings["kd"], models=roles)
    shutil.rmtree(tmp_path / "trainings" / "teacher")
    with pytest.raises(
        UserError, match=r"training 'kd', seed 0: .*belongs to another configuration: .*'v'.* missing saved"
    ):
        train(tmp_path, trainings, options=RunOptions(allow_changed_code=True))
    assert not (tmp_path / "trainings" / "teacher").exists()


def test_fewer_seeds_are_said(tmp_path):
    """Fewer seeds than the folder has → a line says which are left out; more seeds later use them again."""
    lines: list[str] = []
    for seeds in (2, 1, 2):
        lines.clear()
        config = Config(seeds)
        about = experiment({"teacher": teacher_and_student()["teacher"]})._replace(config=config)
        run(about, options=RunOptions(out=tmp_path), callbacks=Callbacks(log=lines.append))
        left_out = [line for line in lines if "also has seed 1, which --seeds 1 leaves out" in line]
        assert len(left_out) == (seeds == 1)
        assert [r["seed"] for r in json.loads((tmp_path / "results.json").read_text())["rows"]] == list(range(seeds))
    assert sum("finished earlier" in line for line in lines) == 2
