"""A tagger in use: texts in, the tag of each word out; exported, measured, and the same as in the run."""

import json

import numpy as np
import pytest

from mmkd_jax import cli
from mmkd_jax.deploy import load
from mmkd_jax.experiment import definition

EXPERIMENT = """
import dataclasses

import numpy as np
import optax

import mmkd_jax as mmkd

TAGS = ("DET", "NOUN", "VERB")


@dataclasses.dataclass(frozen=True)
class Config:
    seeds: int = 1


config = Config()


def trainings(config):
    draw = np.random.default_rng(0)
    words = {"DET": ("The", "a"), "NOUN": ("can", "play", "dog"), "VERB": ("runs", "can", "sleeps")}
    orders = [draw.permutation(TAGS)[: draw.integers(1, 4)].tolist() for _ in range(40)]
    texts = [" ".join(draw.choice(words[t]) for t in each) for each in orders]
    columns = {"text": np.array([t.encode() for t in texts])} | mmkd.data.word_labels(texts, orders, TAGS, 4)
    tokenizer = mmkd.data.train_tokenizer(texts, 20, 8, split="spaces")
    ends = mmkd.data.train_tokenizer(texts, 20, 8, "ends", split="spaces", suffix=1)
    rows = mmkd.data.tokenize(mmkd.data.from_columns(columns, "made-up"), {tokenizer: 4, ends: 4})
    encoders = {"text": mmkd.models.TextBag(tokenizer.vocabulary, 6), "ends": mmkd.models.TextBag(ends.vocabulary, 3)}
    loader = mmkd.data.InMemory(rows, 20)
    shared = {"optimizer": optax.adam(0.03), "data": loader, "validation": loader, "test": loader, "steps": 30}
    found = {}
    for name, chain in (("tokens", False), ("chain", True)):
        net = mmkd.models.Tagger(encoders, 3, 8, window=1)
        task = mmkd.tasks.tagging(TAGS, crf=chain)
        net = mmkd.linen(mmkd.models.Crf(net) if chain else net)
        objective = mmkd.combine(task=task.objective())
        found[name] = mmkd.Training({"student": mmkd.Trained(net)}, objective, task=task, **shared)
    return found
"""
TEXTS = ["The dog runs", "", "a can sleeps quietly under tables"]
CHAINS = ["tokens", "chain"]


def mmkd(*words):
    with pytest.raises(SystemExit) as ended:
        cli.main([*map(str, words)])
    assert not ended.value.code


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tagging")
    (folder / "words.py").write_text(EXPERIMENT)
    mmkd("run", folder / "words.py", "--out", folder / "run")
    return folder


@pytest.mark.parametrize("name", CHAINS)
def test_a_loaded_tagger_names_the_tag_of_each_word(name, place):
    student = load(place / "run", name)
    assert student.classes == ("DET", "NOUN", "VERB") and student.required == ("text",)
    found = student.predict({"text": TEXTS})
    assert found.probabilities is None and found.prediction.shape == (3, 4)
    assert found.prediction[1].tolist() == [""] * 4 and "" not in found.prediction[2]  # four words of it are read
    assert found.prediction[0, 0] == "DET" and found.prediction[0, 3] == ""
    np.testing.assert_array_equal(student.predict({"text": TEXTS}, batch_size=1).prediction, found.prediction)
    made = definition.load(place / "words.py")
    training = made.trainings(made.config)[name]
    rows = training.test.dataset.columns
    again = student.predict({k: rows[k] for k in student.inputs}).prediction
    known = np.array((*student.classes, ""))[np.where(rows["label.mask"], rows["label"], -1)]
    result = json.loads((place / f"run/trainings/{name}/0/result.json").read_text())
    accuracy = (again == known)[rows["label.mask"]].mean()
    assert accuracy > 0.7 and accuracy == pytest.approx(result["accuracy"], abs=1e-6)


@pytest.mark.parametrize("name", CHAINS)
def test_the_command_line_prints_the_tags_of_the_words_of_a_text(name, place, capsys):
    mmkd("predict", place / "run", name, "--text", *TEXTS[::2])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(row["prediction"]) for row in rows] == [3, 4] and rows[0]["prediction"][0] == "DET"
    assert "probabilities" not in rows[0]
    (place / "new.csv").write_text("text\nThe dog\n")
    mmkd("predict", place / "run", name, "--table", place / "new.csv", "--out", place / "out.csv")
    head, row = (place / "out.csv").read_text().splitlines()
    assert head == "row,text,prediction" and row.startswith('0,The dog,"[""DET"", ""')


@pytest.mark.slow
@pytest.mark.parametrize("name", CHAINS)
def test_exports_are_those_of_the_run(name, place, capsys):
    mmkd("export", place / "run", name, "--to", "onnx", "--out", place / f"onnx-{name}")
    mmkd("export", place / "run", name, "--to", "stablehlo", "--out", place / f"hlo-{name}")
    said = capsys.readouterr().err
    assert said.count("100.00% of the predictions are the same") == 2


def test_it_is_measured(place):
    mmkd("measure", place / "run", "--calls", 2)
    found = json.loads((place / "run/measure.json").read_text())["trainings"]
    assert {*found} == {*CHAINS} and all(x["latency"]["32"]["median"] > 0 for x in found.values())
