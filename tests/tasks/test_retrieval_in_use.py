"""A bi-encoder from its training to its use: distilled, stopped early, exported, loaded, measured."""

import json
import pathlib

import numpy as np
import pytest

import mmkd_jax
from mmkd_jax import cli, files, metrics
from mmkd_jax.deploy import load
from tests.tasks.questions import ANSWERS, QUESTIONS, THINGS

FILE = pathlib.Path(__file__).with_name("questions.py")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("retrieval") / "run"
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", str(FILE), "--out", str(folder)])
    assert ended.value.code == 0
    return folder, {n: files.read_json(folder / f"trainings/{n}/0/result.json") for n in ("teacher", "student")}


def mmkd(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        cli.main([*map(str, words)])
    said = capsys.readouterr()
    assert ended.value.code == 0, said.err
    return said


def test_a_student_learns_from_its_teacher_and_stops_early(run):
    _, results = run
    assert min(x["nDCG@10"] for x in results.values()) > 0.5  # chance is 0.08
    curve = results["student"]["history"]
    best = int(np.argmax([x["nDCG@10"] for x in curve]))
    assert results["student"]["best_step"] == curve[best]["step"] == curve[-1]["step"] - 2 * 5 < 200 - 2 * 5


@pytest.mark.parametrize("rows", [7, 64])
def test_its_embeddings_rank_the_answers_as_in_the_run(run, rows):
    """To the bit, for any number of rows of a call; the run evaluates seven at a time."""
    folder, results = run
    made = load(folder, "student").predict({"question": QUESTIONS.tolist(), "answer": ANSWERS.tolist()}, rows)
    found = mmkd_jax.tasks.retrieval(recall=(1, 10)).whole(made.outputs)
    assert {k: float(v) for k, v in found.items()} == {k: results["student"][k] for k in found}
    scores = metrics.similarities(made.outputs["query"], made.outputs["document"])
    assert metrics.ndcg(scores, np.eye(60), k=10).value == results["student"]["nDCG@10"]
    np.testing.assert_allclose(made.prediction, np.diag(scores), rtol=1e-5)


def test_one_side_is_embedded_alone_where_presence_is_read(run):
    folder, _ = run
    student = load(folder, "student")
    both = student.predict({"question": ["who sees the cat at the sea"], "answer": ["the cat of the sea"]})
    alone = student.predict({"question": ["who sees the cat at the sea"], "answer": None})
    np.testing.assert_allclose(alone.outputs["query"], both.outputs["query"], rtol=1e-5)
    assert not alone.outputs["document"].any()


@pytest.mark.slow
def test_it_is_exported_as_the_run_has_it_and_costs_are_measured(run, capsys):
    folder, _ = run
    said = mmkd(capsys, "export", folder, "student", "--to", "stablehlo")
    assert "60 test rows in a fresh process" in said.err and "nDCG@10" in said.err
    signature = files.read_json(pathlib.Path(said.out.strip()) / "signature.json")
    assert {*signature["outputs"]} == {"query", "document", "prediction"}
    mmkd(capsys, "export", folder, "student", "--to", "onnx")
    assert "student" in mmkd(capsys, "measure", folder, "--calls", 1).out
    said = mmkd(
        capsys, "predict", folder, "student", "--question", "who sees the elk at the sea", "--answer", THINGS[0]
    )
    assert -1 <= json.loads(said.out)["prediction"] <= 1
