"""From a run to exported students and their costs, by the command line."""

import dataclasses
import pathlib
import shutil
import sys

import numpy as np
import onnx
import pytest

from mmkd_jax import cli, files
from mmkd_jax.cli import exporting
from mmkd_jax.deploy import check, hub, load
from mmkd_jax.deploy.pretrained_teachers import pretrained_teachers
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import definition

EXPERIMENT = pathlib.Path(__file__).parents[1] / "tiny_experiment.py"


def mmkd(*words, code=0):
    with pytest.raises(SystemExit) as ended:
        cli.main([*map(str, words)])
    assert ended.value.code == code


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    mmkd("run", EXPERIMENT, "--seeds", 1, "--steps", 20, "--out", folder)
    return folder


def refused(capsys, *words):
    mmkd(*words, code=2)
    return capsys.readouterr().err.splitlines()[-1]


def test_a_stablehlo_export_is_checked_in_a_fresh_process_with_jax_alone(run, capsys):
    mmkd("export", run, "student", "--to", "stablehlo")
    said = capsys.readouterr()
    assert "48 test rows in a fresh process with jax" in said.err and "outputs differ by 0.0e+00" in said.err
    out = pathlib.Path(said.out.strip())
    assert out == run / "exports" / "student-0-stablehlo"
    with np.load(out / "example.npz") as example:
        assert example["inputs.image"].shape == (8, 3, 3, 1) and example["outputs.logits"].shape == (8, 3)
        np.testing.assert_array_equal(
            load(out).predict({"image": example["inputs.image"]}).outputs["logits"], example["outputs.logits"]
        )


def test_an_onnx_export_in_float_and_int8_is_checked_with_onnxruntime_alone(run, capsys):
    mmkd("export", run, "student", "--to", "onnx", "--out", run / "onnx")
    assert "with onnxruntime" in capsys.readouterr().err
    model = onnx.load(run / "onnx" / "model.onnx")
    assert [x.name for x in model.graph.input] == ["image"]
    assert {x.name for x in model.graph.output} == {"logits", "prediction"}
    signature = files.read_json(run / "onnx" / "signature.json")
    assert signature["onnx"]["opset"] == 18 and signature["inputs"]["image"]["shape"] == ["b", 3, 3, 1]
    mmkd("export", run, "student", "--to", "onnx", "--int8", "--tolerance", 50, "--out", run / "small")
    quantized = onnx.load(run / "small" / "model.onnx")
    assert {x.data_type for x in quantized.graph.initializer} >= {onnx.TensorProto.INT8}


def test_int8_by_qwix_is_a_student_with_integer_weights(run, capsys):
    mmkd("export", run, "student", "--to", "stablehlo", "--int8", "--tolerance", 50, "--out", run / "qwix")
    student = load(run / "qwix")
    kinds = {x["dtype"] for x in student.signature["variables"]["names"].values()}
    assert kinds == {"int8", "float32"}
    rows = np.random.default_rng(0).random((5, 3, 3, 1), np.float32)
    whole = student.predict({"image": rows}).outputs["logits"]
    one = student.predict({"image": rows[2:3]}).outputs["logits"]
    np.testing.assert_allclose(one[0], whole[2], 1e-5, 1e-5)  # scales are of a row, not of the batch


def test_variables_alone_are_exported_with_their_signature(run, capsys):
    mmkd("export", run, "student", "--to", "safetensors", "--out", run / "plain")
    assert {p.name for p in (run / "plain").iterdir()} >= {"variables.safetensors", "signature.json", "README.md"}


def test_costs_of_all_models_stand_side_by_side_and_in_the_table(run, capsys):
    mmkd("measure", run, "--batch", 1, 4, "--calls", 3)
    assert "| student " in capsys.readouterr().out
    costs = files.read_json(run / "measure.json")["trainings"]
    assert costs["teacher"]["parameters"] > costs["student"]["parameters"] > 0
    assert costs["teacher"]["operations"] > costs["student"]["operations"] > 0
    for cost in costs.values():
        assert set(cost["latency"]) == {"1", "4"} and cost["latency"]["1"]["min"] > 0
    mmkd("run", EXPERIMENT, "--seeds", 1, "--steps", 20, "--out", run)
    assert "ms for 4 (min / median / p99)" in (run / "table.md").read_text()


PRETRAINED = """
import dataclasses

import mmkd_jax as mmkd
from mmkd_jax.training.init_from import PretrainedVariables
from tests import tiny_experiment

Config, config = tiny_experiment.Config, tiny_experiment.config


def trainings(config):
    student = tiny_experiment.trainings(config)["student"]
    loaded = PretrainedVariables(student.own_variables("teacher", 3))
    teacher = mmkd.Frozen(student.networks["teacher"], init_from=loaded)
    made = dataclasses.replace(student, models={**student.models, "teacher": teacher})
    alone = mmkd.Training.evaluation(teacher, student.task, student.validation, student.test)
    return {"kd": made} | ({"loaded": alone} if config.cached else {})
"""


def test_a_pretrained_teacher_is_measured_beside_its_student(tmp_path, capsys):
    file, run = tmp_path / "loaded.py", tmp_path / "run"
    file.write_text(PRETRAINED)
    mmkd("run", file, "--seeds", 1, "--steps", 1, "--out", run)
    mmkd("measure", run, "--batch", 2, "--calls", 2)
    assert "| teacher " in capsys.readouterr().out
    costs = files.read_json(run / "measure.json")["trainings"]
    assert set(costs) == {"teacher", "kd"} and costs["teacher"]["model"] == "teacher"
    for kind in ("parameters", "operations"):
        assert costs["teacher"][kind] > costs["kd"][kind] > 0
    assert costs["teacher"]["bytes"] > 4 * costs["teacher"]["parameters"]
    assert costs["teacher"]["latency"]["2"]["min"] > 0 and costs["teacher"]["memory"]["2"] > 0
    experiment = definition.load(file)
    both = experiment.trainings(dataclasses.replace(experiment.config, cached=True))
    assert set(pretrained_teachers(both)) == {"loaded"}  # under the name of its row in the table, once
    file.unlink()
    mmkd("measure", run, "--batch", 2, "--calls", 2)
    assert "pretrained teachers are left out: the experiment" in capsys.readouterr().err
    assert set(files.read_json(run / "measure.json")["trainings"]) == {"kd"}


def test_bad_input_of_an_export_is_one_line(run, capsys, tmp_path, monkeypatch):
    assert "--int8 goes with --to stablehlo or onnx, not hf" in refused(
        capsys, "export", run, "student", "--to", "hf", "--int8"
    )
    assert "not a pretrained one" in refused(capsys, "export", run, "student", "--to", "hf")
    assert "has no training 'other'" in refused(capsys, "export", run, "other", "--to", "onnx")
    (tmp_path / "mine.txt").write_text("mine")
    assert "is not an earlier export" in refused(
        capsys, "export", run, "student", "--to", "safetensors", "--out", tmp_path
    )
    assert "is not there: name its file with --experiment" in refused(
        capsys, "export", run, "student", "--to", "onnx", "--experiment", tmp_path / "gone.py"
    )
    assert "has no student of seed 7" in refused(capsys, "measure", run, "--seed", 7)
    for package, words in {"onnxruntime": ["onnx"], "qwix": ["stablehlo", "--int8"]}.items():
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, package, None)
            extra = {"onnxruntime": "onnx", "qwix": "quant"}[package]
            assert f"pip install 'mmkd_jax[{extra}]'" in refused(capsys, "export", run, "student", "--to", *words)


def test_another_file_of_this_name_is_not_the_experiment(tmp_path):
    """Two folders with an `exp.py` each: a run is never measured or exported with the other one's models."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "exp.py").write_text(f"# {name}\n")
    run = tmp_path / "a" / "runs" / "exp"
    run.mkdir(parents=True)
    files.write_json(run / "code.json", {"digest": {"exp.py": files.sha256(tmp_path / "a" / "exp.py")[:16]}})
    assert exporting._found(run, pathlib.Path("exp.py")) == tmp_path / "a" / "exp.py"
    assert exporting._found(run, tmp_path / "a" / "exp.py") == tmp_path / "a" / "exp.py"
    with pytest.raises(UserError, match="b/exp.py is not the experiment of .*name its file with --experiment"):
        exporting._found(run, tmp_path / "b" / "exp.py")
    (tmp_path / "a" / "exp.py").write_text("changed = True\n")
    with pytest.raises(UserError, match="or was changed since: go to its folder, or name its file"):
        exporting._found(run, pathlib.Path("exp.py"))


def test_a_student_that_differs_from_its_run_is_not_written(run, capsys):
    other = run.with_name("other")
    shutil.copytree(run, other)
    path = other / "trainings" / "student" / "0" / "result.json"
    result = files.read_json(path)
    files.write_json(path, result | {"accuracy": result["accuracy"] - 0.5})
    assert "the data or the experiment has changed since" in refused(
        capsys, "export", other, "student", "--to", "stablehlo", "--out", other / "again"
    )
    assert not (other / "again").exists()


def test_a_fall_by_quantization_beyond_the_tolerance_is_refused():
    from mmkd_jax.tasks import classification

    found = check.Comparison(0.1, 0.9, 0.60, 0.64, 100)
    check.check_fall(found, 4.5, classification(3))
    with pytest.raises(UserError, match=r"int8 lowers accuracy by 4.0 points \(64.00 % → 60.00 %\), more than --toler"):
        check.check_fall(found, 1.0, classification(3))


def test_pushing_without_a_token_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UserError, match="no token of the hub"):
        hub.push(tmp_path, "me/student")
