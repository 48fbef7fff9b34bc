"""A student in use: what a run leaves, what `load` and `predict` do with it, and what is refused."""

import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

import mmkd_jax as mmkd
from mmkd_jax import files, foreign_files
from mmkd_jax.core.model import predict
from mmkd_jax.deploy import folder as student_folder
from mmkd_jax.deploy.program import export_training
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import Callbacks, RunOptions, definition, run, runner, saved
from tests.deploy.pets import EXPERIMENT, record

ROOT = pathlib.Path(__file__).parents[2]


def go(file, folder):
    lines = []
    run(definition.load(file), options=RunOptions(folder), callbacks=Callbacks(log=lines.append))
    return lines


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run, the file of its experiment, and what it exported."""
    place = tmp_path_factory.mktemp("made")
    (place / "pets.py").write_text(EXPERIMENT)
    exports, patch = [], pytest.MonkeyPatch()

    def counted(training):
        exports.append(training)
        return export_training(training)

    patch.setattr(runner, "export_training", counted)
    run(
        definition.load(place / "pets.py"), definition.load(place / "pets.py").config, options=RunOptions(place / "run")
    )
    patch.undo()
    assert len(exports) == 1
    return place


@pytest.fixture(scope="module")
def student(made):
    return mmkd.load(made / "run", "own")


@pytest.fixture
def copied(made, tmp_path):
    return pathlib.Path(shutil.copytree(made / "run", tmp_path / "run"))


def test_a_run_leaves_a_student_of_each_training_that_trains(made):
    names = {p.relative_to(made / "run/trainings").as_posix() for p in (made / "run/trainings").glob("*/0/student/*")}
    expected = {"program.stablehlo", "variables.safetensors", "signature.json", "preprocess.json"}
    assert names == {f"own/0/student/{n}" for n in expected}
    signature = json.loads((made / "run/trainings/own/0/student/signature.json").read_text())
    assert signature["inputs"]["call"] == {"dtype": "float32", "shape": ["b", 8]}
    assert list(signature["inputs"]) == ["age", "call", "present.call"]
    assert signature["classes"] == ["cat", "dog"] and signature["batch"] is None
    assert signature["platforms"] == ["cpu", "cuda", "tpu"] and signature["parameters"] == 50


def test_predictions_are_those_of_the_module_bit_by_bit(made, student):
    training = definition.load(made / "pets.py").trainings(None)["own"]
    variables = saved.load_variables(made / "run", training, "own")["own"]
    rows = training.test.dataset.columns
    found = jax.jit(lambda v, batch: predict(training.networks["own"], v, batch))(
        variables, {k: rows[k][:8] for k in rows}
    )["logits"]
    inputs = {k: rows[k] for k in ("call", "age", "present.call")}
    predictions = student.predict(inputs, batch_size=8)
    np.testing.assert_array_equal(predictions.outputs["logits"][:8], found)
    np.testing.assert_allclose(predictions.probabilities, jax.nn.softmax(predictions.outputs["logits"]), rtol=1e-6)
    assert predictions.prediction.tolist() == [
        ("cat", "dog")[i] for i in predictions.outputs["logits"].argmax(1).tolist()
    ]
    for size in (1, 3, 5, 64):  # XLA computes products of other numbers of rows in another order
        again = student.predict(inputs, batch_size=size)
        np.testing.assert_allclose(again.outputs["logits"], predictions.outputs["logits"], rtol=1e-5, atol=1e-6)


def test_raw_inputs_go_through_the_declared_steps(student, tmp_path):
    paths = [record(tmp_path / f"{i}.wav", samples=4 + i) for i in range(3)]
    waves = np.zeros((3, 8), np.float32)
    for i in range(3):
        waves[i, : 4 + i] = np.arange(4 + i) * 1000 / 2**15
    ages = np.array([0.5, 1, 2], np.float32)
    raw = student.predict({"call": paths, "age": ages.tolist()})
    np.testing.assert_array_equal(raw.probabilities, student.predict({"call": waves, "age": ages}).probabilities)
    assert set(raw.prediction) <= {"cat", "dog"} and raw.probabilities.shape == (3, 2)


def test_a_missing_modality_is_absent_in_its_row(student, tmp_path):
    path = record(tmp_path / "a.wav")
    found = student.predict({"call": [path, None], "age": [1.0, 1.0]}).outputs["logits"]
    whole = student.predict({"call": None, "age": [1.0, 1.0]}).outputs["logits"]
    there = student.predict({"call": np.ones((2, 8), np.float32), "age": [1.0, 1.0], "present.call": [False] * 2})
    np.testing.assert_array_equal(whole[1], found[1])
    np.testing.assert_array_equal(whole, there.outputs["logits"])
    assert (found[0] != found[1]).any()


def test_no_rows_are_no_predictions(student):
    found = student.predict({"call": [], "age": []})
    assert found.prediction.shape == (0,) and found.probabilities.shape == (0, 2)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"call": None}, r"column 'age' \(float32 \[n\]\) is missing"),
        ({"age": [1.0]}, "input 'call' is missing: give its values, or None where a row has none"),
        ({"call": None, "age": [1.0], "photo": ["a.png"]}, "input 'photo' is unknown: this student reads age, call"),
        ({"call": None, "age": [None]}, "row 0 has no age, and this student does not read present.age"),
        ({"call": None, "age": ["old"]}, "row 0 of 'age' is 'old', and no steps are declared that read it: give the"),
        ({"call": None, "age": [1.0, 2.0], "present.call": [True]}, "different numbers of rows"),
        ({"call": "a.wav", "age": [1.0]}, "input 'call' is 'a.wav'; expected a list with the value of each row"),
        ({"call": None, "age": None}, "all inputs are None"),
        (
            {"call": np.zeros((1, 7), np.float32), "age": [1.0]},
            r"'call' is float32 \[n, 7\]; this student reads float32 \[",
        ),
        ({"call": np.zeros((1, 8), np.uint8), "age": [1.0]}, r"'call' is uint8 \[n, 8\].* as a list, one for each row"),
        (
            {"call": None, "age": np.array([1])},
            r"column 'age' is int32 \[n\]; this student reads float32 \[n\]: convert it",
        ),
        ({"call": None, "age": [1.0, np.nan]}, "output 'logits' is not finite in row 1"),
        ({"call": ["nope.wav"], "age": [1.0]}, "call 0.*nope.wav"),
    ],
)
def test_other_inputs_are_refused_by_name(student, inputs, message):
    with pytest.raises(UserError, match=message) as error:
        student.predict(inputs)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_a_recording_of_another_rate_is_refused_with_its_row_and_path(student, tmp_path):
    good, bad = record(tmp_path / "a.wav"), record(tmp_path / "b.wav", rate=11_025)
    with pytest.raises(UserError, match=r"call 65.*b\.wav.*11.?025"):
        student.predict({"call": [good] * 65 + [bad], "age": [1.0] * 66}, batch_size=64)


def test_a_student_loads_without_its_experiment_its_data_and_flax(made, tmp_path):
    """In a fresh process, of a run folder that was moved; the class of the model is nowhere."""
    shutil.move(shutil.copytree(made / "run", tmp_path / "first"), tmp_path / "moved")
    path = record(tmp_path / "a.wav")
    code = (
        "import sys, mmkd_jax as mmkd\n"
        f"student = mmkd.load({str(tmp_path / 'moved')!r}, 'own', seed=0)\n"
        f"print(student.predict({{'call': [{str(path)!r}], 'age': [0.5]}}).prediction[0])\n"
        "print(*{m for m in ('flax', 'optax', 'orbax', 'grain', 'pickle5', 'tensorflow_datasets') if m in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    here = mmkd.load(tmp_path / "moved/trainings/own/0/student").predict({"call": [path], "age": [0.5]}).prediction[0]
    assert done.stdout.split() == [here]


def test_a_finished_run_writes_a_damaged_student_again_and_keeps_the_one_it_has(made, copied):
    place = copied / "trainings" / "own" / "0" / "student"
    program, before = place / "program.stablehlo", contents(place)
    program.write_bytes(program.read_bytes()[:-9])
    lines = go(made / "pets.py", copied)
    assert any("program.stablehlo is damaged" in line and "written again" in line for line in lines), lines
    assert any("own, seed 0" in line and "finished earlier" in line for line in lines)
    assert contents(place) == before
    times = {p: p.stat().st_mtime_ns for p in place.iterdir()}
    assert not any("student" in line for line in go(made / "pets.py", copied))
    assert times == {p: p.stat().st_mtime_ns for p in place.iterdir()}


def test_a_finished_run_writes_its_student_again_when_only_its_declared_steps_or_class_names_change(copied, tmp_path):
    """The steps are no part of the training, whose result stays, but the student must not keep the earlier ones."""
    place, file = copied / "trainings" / "own" / "0" / "student", tmp_path / "pets.py"
    before, text = contents(place), EXPERIMENT
    for old, new, said in (
        ("Resample(8000, strict=True)", "Resample(8000)", "declared steps"),
        ('("cat", "dog")', '("dog", "cat")', "names of the classes"),
    ):
        file.write_text(text := text.replace(old, new))
        lines = go(file, copied)
        assert any("finished earlier" in line for line in lines)
        assert [line for line in lines if f"has other {said} than the experiment: it is written again" in line], lines
    after = contents(place)
    assert {n for n in after if after[n] != before[n]} == {"signature.json", "preprocess.json"}
    found = mmkd.load(copied, "own")
    assert found.classes == ("dog", "cat")
    path = record(tmp_path / "a.wav", rate=16_000)  # refused by the earlier steps
    assert found.predict({"call": [path], "age": [1.0]}).prediction.shape == (1,)
    assert not any("student" in line for line in go(file, copied))


def test_a_run_of_an_earlier_version_has_no_student(copied):
    shutil.rmtree(copied / "trainings" / "own" / "0" / "student")
    with pytest.raises(UserError, match="'own' has no student with seed 0: .* run the experiment again"):
        mmkd.load(copied, "own")


def test_a_model_that_cannot_be_exported_is_tried_once_and_loses_no_training_and_no_other_student(
    tmp_path, monkeypatch
):
    called = "\n        x = x if ctx.train or not self.called else jax.pure_callback(lambda y: y, x, x)\n        tap = "
    text = "import jax\n" + EXPERIMENT.replace("\n        tap = ", called).replace("seeds: int = 1", "seeds: int = 2")
    text = text.replace("    @nn.compact", "    called: bool = False\n\n    @nn.compact")
    broken = (
        'mmkd.Training({"own": mmkd.Trained(mmkd.linen(Own(True)))}, mmkd.combine(t=task.objective("own")), **shared)'
    )
    file, exports = tmp_path / "pets.py", []
    file.write_text(text.replace("    return {\n", f'    return {{\n        "broken": {broken},\n'))

    def counted(training):
        exports.append(training)
        return export_training(training)

    monkeypatch.setattr(runner, "export_training", counted)
    lines = go(file, tmp_path / "run")
    said = [line for line in lines if "no student" in line]
    assert (
        len(said) == 1
        and said[0].startswith("broken: no student: model 'own' cannot be exported")
        and len(exports) == 2
    )
    assert len(json.loads((tmp_path / "run" / "results.json").read_text())["rows"]) == 6
    for seed in (0, 1):
        with pytest.raises(UserError, match="has no student: model 'own' cannot be exported") as error:
            mmkd.load(tmp_path / "run", "broken", seed)
        assert "\n" not in str(error.value) and len(str(error.value)) < 500
        mmkd.load(tmp_path / "run", "own", seed)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "is the folder of a run: name one of its trainings: evaluated, own"),
        (("owl",), "has no training 'owl'; its trainings are: evaluated, own"),
        (("own", 3), "'own' has no finished seed 3; finished are: 0"),
        (("evaluated",), "'evaluated' trains nothing and leaves no student: use the training that its model"),
    ],
)
def test_a_training_that_is_not_there_is_refused_with_those_that_are(made, words, message):
    with pytest.raises(UserError, match=message):
        mmkd.load(made / "run", *words)


def test_a_folder_of_something_else_is_refused(made, tmp_path):
    with pytest.raises(UserError, match="is not the folder of a run; runs in .* are: run"):
        mmkd.load(made / "rum", "own")
    with pytest.raises(UserError, match=r"is not the folder of a student: it has no signature\.json"):
        mmkd.load(tmp_path)


FILES = ("program.stablehlo", "variables.safetensors", "signature.json", "preprocess.json")


@pytest.mark.parametrize("name", FILES)
def test_an_edited_or_missing_file_is_refused_by_name(copied, name):
    path = copied / "trainings" / "own" / "0" / "student" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x11
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{re.escape(name)}.* (is|are) damaged") as error:
        mmkd.load(copied, "own")
    assert "\n" not in str(error.value)
    path.unlink()
    with pytest.raises(UserError, match=re.escape(name)):
        mmkd.load(copied, "own")


def edited(place, change):
    path = place / "signature.json"
    signature = files.read_json(path)
    change(signature)
    files.write_json(path, signature)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.update(format=2),
            "has format 2, of mmkd_jax .*; this version reads format 1: install that version",
        ),
        (lambda s: s["inputs"]["call"].update(dtype="float16"), "takes or returns other columns"),
        (lambda s: s["inputs"].pop("age"), "takes or returns other columns"),
        (lambda s: s["inputs"]["call"].update(dtype="object"), "is not valid"),
        (lambda s: s.pop("task"), "is not valid"),
        (lambda s: s.update(classes=[1, 2]), "is not valid"),
        (lambda s: s.update(inputs=[]), "is not valid"),
        (lambda s: s["variables"]["names"].clear(), "belongs to another configuration"),
        (lambda s: s.update(platforms=["tpu"]), None),
    ],
)
def test_a_signature_of_another_version_or_program_is_refused(copied, change, message):
    place = copied / "trainings" / "own" / "0" / "student"
    edited(place, change)
    if message is None:  # the program knows
        assert mmkd.load(place).predict({"call": None, "age": [1.0]}).prediction.shape == (1,)
        return
    with pytest.raises(UserError, match=message) as error:
        mmkd.load(place)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_a_program_of_a_newer_jax_is_refused_with_both_versions(copied):
    place = copied / "trainings" / "own" / "0" / "student"
    content = b"\x00" * 64
    (place / "program.stablehlo").write_bytes(content)
    edited(place, lambda s: s["program"].update(sha256=hashlib.sha256(content).hexdigest()))
    edited(place, lambda s: s["versions"].update(jax="99.0"))
    with pytest.raises(UserError, match=r"was written by jax 99\.0 and cannot be read by jax \d"):
        mmkd.load(place)


def test_each_file_of_a_student_is_opened_once(made, monkeypatch):
    opened, read = [], foreign_files.read_bytes
    monkeypatch.setattr(
        foreign_files, "read_bytes", lambda path, *more: (opened.append(path.name), read(path, *more))[1]
    )
    mmkd.load(made / "run", "own")
    assert sorted(opened) == ["preprocess.json", "program.stablehlo", "variables.safetensors"]


def test_a_folder_is_whole_or_not_there(tmp_path):
    """A process that is killed while it writes leaves nothing that counts, and the next one clears up."""

    def killed(new):
        (new / "a").write_text("half")
        raise KeyboardInterrupt

    student_folder.write_failure(tmp_path / "student", "old")
    with pytest.raises(KeyboardInterrupt):
        files.write_folder(tmp_path / "student", killed)
    (tmp_path / ".student.left").mkdir()
    student_folder.write_failure(tmp_path / "student", "new")
    assert [p.name for p in tmp_path.iterdir()] == ["student"]
    assert files.read_json(tmp_path / "student" / "failed.json") == {"reason": "new"}


def test_predictions_of_several_tasks_beside_an_output_of_that_name():
    """A regression's output is `prediction`, too: it is no prediction of several tasks."""
    row = jax.ShapeDtypeStruct((), "float32")
    names = ("prediction", "prediction.mood", "prediction.topic")
    outputs = dict.fromkeys(names, row)
    call = lambda batch: {n: i * batch["x"] for i, n in enumerate(names)}  # noqa: E731
    student = mmkd.deploy.Student({"x": row}, outputs, (), {"problem": "", "logits": ""}, (), None, call, {})
    found = student.predict({"x": [1.0, 2.0]})
    assert {k: v.tolist() for k, v in found.prediction.items()} == {"mood": [1.0, 2.0], "topic": [2.0, 4.0]}
    assert set(found.outputs) == {"prediction"}
