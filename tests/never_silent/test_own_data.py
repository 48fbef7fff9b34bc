"""Own data in, a student in use out: each mistake is one line, which names file and row, or what to do."""

import json
import shutil
import sys
from typing import Any

import jax
import numpy as np
import pytest
import scipy.io.wavfile
from jax import lax
from PIL import Image

import mmkd_jax as mmkd
from mmkd_jax import cli, data, files
from mmkd_jax.data import film
from mmkd_jax.data.preprocess import PadOrTrim, Preprocessing, ReadArray, ReadImage, Resample, Resize
from mmkd_jax.deploy import check, columns, exporting, folder, measuring, quantization
from mmkd_jax.deploy.onnx_file import converted
from mmkd_jax.deploy.program import export_function
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import runner
from mmkd_jax.tasks import classification
from tests.never_silent.setting import teacher_and_student, train

SOUND, PHOTO = (Resample(8_000, strict=True), PadOrTrim(4)), (ReadImage(), Resize((4, 4)))
ROWS = [["0.wav", "0.png", "cat", "train"], ["1.wav", "1.png", "dog", "train"], ["2.wav", "2.png", "cat", "test"]]


def refused(call, words):
    """The message of an error is one line."""
    with pytest.raises(UserError, match=words) as error:
        call()
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    place = tmp_path_factory.mktemp("raw")
    for i in range(3):
        scipy.io.wavfile.write(place / f"{i}.wav", 8_000, np.arange(4 + i).astype(np.int16))
        Image.new("RGB", (5, 4), (i, 0, 0)).save(place / f"{i}.png")
    scipy.io.wavfile.write(place / "fast.wav", 16_000, np.zeros(4, np.int16))
    (place / "cut.png").write_bytes((place / "0.png").read_bytes()[:60])
    return place


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """The folder of a student of recordings and a number, whose second class is called dog."""
    rows = {"call": jax.ShapeDtypeStruct((4,), "float32"), "age": jax.ShapeDtypeStruct((), "float32")}
    w = jax.ShapeDtypeStruct((4, 2), "float32")

    def run(v, batch):
        logits = batch["call"] @ v["params.w"] + batch["age"][:, None]
        return {"logits": logits, "prediction": logits.argmax(-1)}

    made = export_function(run, {"params.w": w}, rows)._replace(logits="logits")
    about = {"experiment": "pets", "training": "own", "model": "own", "seed": 0}
    task = {"name": "classification", "problem": "single_label_classification", "metric": "accuracy"}
    place = tmp_path_factory.mktemp("made") / "trainings" / "own" / "0" / "student"
    steps, values = [Preprocessing("call", SOUND)], {"params.w": np.eye(4, 2, dtype=np.float32)}
    folder.write(place, made, values, about=about, task=task, classes=("cat", "dog"), preprocess=steps)
    return place


@pytest.mark.parametrize(
    ("row", "changed", "words"),
    [
        (1, {0: "fast.wav"}, r"sound 1, .*fast\.wav: rate is 16000 Hz; the model expects 8000 Hz"),
        (1, {1: "cut.png"}, r"photo 1, .*cut\.png is damaged \(truncated PNG file\)"),
        (0, {1: "0.wav"}, r"photo 0, .*0\.wav is RIFF; expected an image"),
        (2, {0: "no.wav"}, r"row 2 \(line 4\): 'sound': there is no file .*no\.wav"),
        (2, {2: "cow"}, "row 2 .*'cow' is not a class of the training rows"),
    ],
)
def test_a_row_of_a_table_that_cannot_be_read(raw, tmp_path, row, changed, words):
    """A table with a recording at another sample rate than `Resample(strict=True)`, a damaged, foreign or missing
    file, or a class that only the test rows have → refused by row and path.
    """
    rows = [[changed.get(k, x) for k, x in enumerate(r)] if i == row else r for i, r in enumerate(ROWS)]
    text = "\n".join(map(",".join, [["sound", "photo", "kind", "fold"], *rows]))
    (raw / "pets.csv").write_text(text + "\n")
    inputs = {"sound": SOUND, "photo": PHOTO}
    refused(
        lambda: data.from_files(raw / "pets.csv", inputs, label="kind", split="fold", name="pets", cache=tmp_path),
        words,
    )


def of_huggingface(inputs, label):
    """`datasets` is not needed to see that a column is not there."""
    features = {"image": type("Image", (), {})(), "text": None}
    rows = type("Dataset", (), {"features": features, "with_format": None, "num_rows": 1, "__len__": lambda self: 1})
    return data.from_huggingface(rows(), inputs, label=label)


def of_files(inputs, label, place):
    (place / "pets.csv").write_text("image,text\n0.png,a\n")
    return data.from_files(place / "pets.csv", inputs, label=label, name="pets", cache=place)


@pytest.mark.parametrize(("inputs", "label"), [({"photo": PHOTO}, None), ({"image": PHOTO}, "kind")])
@pytest.mark.parametrize("source", ["from_files", "from_huggingface"])
def test_a_column_that_is_not_there(source, inputs, label, tmp_path):
    """An input or label that is no column of a table or of a `datasets.Dataset` → refused, with those there are."""
    name = label or "photo"
    if source == "from_files":
        refused(lambda: of_files(inputs, label, tmp_path), f"has no column '{name}'.*: image, text")
    else:
        refused(lambda: of_huggingface(inputs, label), f"has no column '{name}'; it has: image, text")


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"call": ["{}/0.wav", "{}/fast.wav"], "age": [1.0, 1.0]}, r"call 1, .*fast\.wav: rate is 16000 Hz"),
        ({"call": ["{}/0.png"], "age": [1.0]}, r"call 0, .*0\.png .*expected a \.wav file"),
        ({"call": [None], "age": [1.0]}, "row 0 has no call, and this student does not read present.call"),
        ({"call": ["{}/0.wav"], "age": ["old"]}, "row 0 of 'age' is 'old', and no steps are declared that read it"),
        ({"call": ["{}/0.wav"]}, r"column 'age' \(float32 \[n\]\) is missing"),
        ({"call": ["{}/0.wav"], "age": [1.0], "photo": ["a.png"]}, "input 'photo' is unknown: this student reads"),
        ({"call": np.zeros((1, 4)), "age": np.array([np.inf])}, "output 'logits' is not finite in row 0"),
    ],
)
def test_inputs_of_a_student(student, raw, inputs, words):
    """A student's input at another sample rate than `strict=True` allows, unreadable, missing, unknown, raw where no
    steps are declared, or whose outputs are not finite → refused by name, row and path.
    """
    given = {k: [x.format(raw) if isinstance(x, str) else x for x in v] if isinstance(v, list) else v
             for k, v in inputs.items()}  # fmt: skip
    refused(lambda: mmkd.load(student).predict(given), words)


def test_a_row_without_any_input():
    """A row to predict that lacks all inputs of a student that was trained with gaps → refused by row."""
    dtypes = {"age": "float32", "present.age": "bool", "size": "float32", "present.size": "bool"}
    spec = {k: jax.ShapeDtypeStruct((), t) for k, t in dtypes.items()}
    assert columns.made({"age": [31, None], "size": [None, 8]}, 2, spec, ())["present.age"].tolist() == [True, False]
    empty = {"age": [31, None], "size": [7, None]}
    refused(lambda: columns.made(empty, 2, spec, (), 4), r"row 5 lacks all inputs \(age, size\)")


@pytest.mark.parametrize(
    ("cells", "how", "words"),
    [
        (["0.png,cat,train", "1.png,dog,tset"], {}, r"row 1 .* the split, is 'tset', which looks like 'test'"),
        (["0.png,cat,train", "1.png,NaN,train"], {}, r"row 1 .* label 'kind' is 'NaN': leave the cell empty"),
        (["0.png,cat,train"], {"rename": {"image": "kind"}}, "input 'image' reads the column 'kind', which has the"),
        ([",cat,train", ",dog,train", "1.png,cat,test"], {}, "input 'image' is empty in all 2 training rows"),
    ],
)
def test_cells_that_do_not_say_what_was_meant(raw, tmp_path, cells, how, words):
    """A typo in a split, NaN as a class, labels as an input, or an input that no training row has → refused."""
    (raw / "cells.csv").write_text("\n".join(["image,kind,fold", *cells]))
    refused(
        lambda: data.from_files(
            raw / "cells.csv", {"image": PHOTO}, label="kind", split="fold", name="cells", cache=tmp_path, **how
        ),
        words,
    )


def test_a_label_that_training_never_had(student, raw, capsys, tmp_path):
    """`mmkd predict --label` with a class that training never had → refused by row before anything is predicted."""
    (raw / "new.csv").write_text("call,age,kind\n0.wav,1,cat\n1.wav,1,cow\n")
    with pytest.raises(SystemExit) as end:
        cli.main(
            ["predict", str(student), "--table", str(raw / "new.csv"), "--label", "kind", "--out", f"{tmp_path}/a.csv"]
        )
    out, err = capsys.readouterr()
    assert end.value.code == 2 and "row 1 (line 3): label 'cow' is not a class" in err and err.count("\n") == 1
    assert out == "" and not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "has format 2, of mmkd_jax .*; this version reads format 1: install that version"),
        ({"inputs": {}}, "takes or returns other columns than signature.json says"),
    ],
)
def test_a_student_of_another_version(student, tmp_path, change, words):
    """A student of another format, or with another program than its signature says → refused, with the version that
    reads it; one whose files were edited → refused by file.
    """
    place = shutil.copytree(student, tmp_path / "student")
    files.write_json(place / "signature.json", files.read_json(place / "signature.json") | change)
    refused(lambda: mmkd.load(place), words)
    text = (place / "preprocess.json").read_text()
    (place / "preprocess.json").write_text(text.replace("8000", "9000"))
    files.write_json(place / "signature.json", files.read_json(student / "signature.json"))
    refused(lambda: mmkd.load(place), r"preprocess\.json is damaged or edited")


def test_a_model_that_cannot_be_exported(tmp_path, monkeypatch):
    """A model that cannot be exported → named once when its training ends; its results and the other students are kept,
    and loading it says why.
    """

    def failing(training):
        if training.evaluate == "teacher":
            raise TypeError("no size\nno traceback")
        return original(training)

    original, lines = runner.export_training, []
    monkeypatch.setattr(runner, "export_training", failing)
    train(tmp_path, teacher_and_student(), lines=lines)
    said = "teacher: no student: model 'teacher' cannot be exported (TypeError: no size)"
    assert lines.count(said) == 1 and len(json.loads((tmp_path / "results.json").read_text())["rows"]) == 2
    refused(lambda: mmkd.load(tmp_path, "teacher"), "has no student: model 'teacher' cannot be exported .TypeError: no")
    assert mmkd.load(tmp_path, "kd").predict({"x": np.zeros((1, 4), np.float32)}).prediction.shape == (1,)


def test_an_operator_that_onnx_lacks():
    """An operator that ONNX lacks → named, with its place in the model."""

    def run(v, batch):
        with jax.named_scope("head"):
            return {"y": lax.lgamma(batch["x"])}

    row = {"x": jax.ShapeDtypeStruct((2,), "float32")}
    refused(
        lambda: converted(run, {}, row), "operator 'lgamma' in .*head.* cannot be exported to ONNX: use --to stableh"
    )


def test_an_export_that_is_not_the_run(student):
    """An export with other outputs or metrics than the run, or int8 that costs more than --tolerance → refused."""
    task = classification(2)
    refused(lambda: check.check_same(check.Comparison(0.1, 1.0, 0.6, 0.6, 9), 1e-5, task), "differ")
    refused(lambda: check.check_same(check.Comparison(0.0, 1.0, 0.6, 0.7, 9), 1e-5, task), "accuracy")
    fallen = check.Comparison(0.1, 0.9, 0.60, 0.64, 100)
    refused(lambda: check.check_fall(fallen, 1.0, task), "int8 lowers accuracy by 4.0 points .*more than --tolerance")
    check.check_fall(fallen, 4.5, task)


EXTRAS: dict[str, Any] = {
    "onnx": (exporting._packages, "onnx"),
    "onnxruntime": (exporting._packages, "onnx"),
    "qwix": (quantization._package, "quant"),
    "av": (lambda: film.frames(b"", "clip 0", 2), "video"),
}


@pytest.mark.parametrize("package", EXTRAS)
def test_a_missing_extra(package, monkeypatch):
    """An export, quantization or video whose package is not installed → refused, with the command that installs it."""
    call, extra = EXTRAS[package]
    monkeypatch.setitem(sys.modules, package, None)
    refused(call, rf"pip install 'mmkd_jax\[{extra}\]'")


def test_a_run_without_students(student, tmp_path, capsys):
    """`mmkd measure` or `mmkd export` of a run without students, or whose experiment is not there → refused by name."""
    refused(lambda: measuring.costs(tmp_path), "has no student of seed 0; its trainings are")
    refused(lambda: measuring.costs(student.parents[3], seed=3), "has no student of seed 3; its trainings are: own")
    refused(lambda: mmkd.load(student.parents[3], "owl"), "has no training 'owl'; its trainings are: own")
    files.write_json(student.parent / "result.json", {"accuracy": 1.0})
    with pytest.raises(SystemExit) as end:
        cli.main(["export", str(student.parents[3]), "own", "--to", "safetensors", "--out", str(tmp_path / "out")])
    assert end.value.code == 2 and "is not the folder of a run: it has no config.json" in capsys.readouterr().err


@pytest.mark.parametrize("steps", [SOUND[:1], (ReadArray((3,)),), (ReadArray((4,), "int32"),)])
def test_steps_that_did_not_make_the_data(steps):
    """`Training(preprocess=…)` with steps of another shape or dtype than the data → refused before anything runs."""
    words = "shape of 'x' differs|gives 'x' as .*, but the data have float32.4.: declare the steps that made the data"
    refused(lambda: teacher_and_student(preprocess={"x": steps}), words)
