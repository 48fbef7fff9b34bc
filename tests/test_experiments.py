"""Every experiment of the repository is sound: all its paths, masks and names, from shapes alone."""

import dataclasses
import pathlib
from typing import Any

import numpy as np
import pytest

from mmkd_jax import data, methods, pretrained
from mmkd_jax.adversarial import PGD
from mmkd_jax.core.objective import combine
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import definition, runner
from mmkd_jax.models import Bert, Encoders, ResNet, TaskHead, TransformerConfig
from mmkd_jax.pretrained import packages
from tests import tiny_experiment

FILES = sorted((pathlib.Path(__file__).parents[1] / "experiments").glob("*.py"))


@pytest.fixture
def stand_ins(monkeypatch, tmp_path):
    """What experiments fetch, as made-up rows and small encoders."""
    draw = np.random.default_rng(0)
    own: dict[str, dict[str, Any]] = {
        "sentiment_intensity": {"rating": draw.normal(size=400).astype(np.float32)}
        | {"ratings": draw.dirichlet(np.ones(9), 400).astype(np.float32), "source": np.zeros(400, np.int32)},
        "emoji": {"image": draw.integers(0, 255, (400, 72, 72, 3), np.uint8), "family": np.arange(400) // 2},
    }
    own["emoji"] |= {"label": np.arange(400, dtype=np.int32) % 8}
    own["easy_vqa"] = {"image": np.zeros((400, 64, 64, 3), np.uint8), "label": np.arange(400) % 3}
    own["easy_vqa"] |= {"picture": np.arange(400) // 4}
    own["icons"] = {"image": draw.integers(0, 255, (400, 32, 32, 1), np.uint8), "label": draw.random((400, 3)) < 0.5}
    classes: dict[str, tuple[str, ...]] = {
        "brown": ("NOUN", "VERB"),
        "easy_vqa": ("yes", "no", "red"),
        "icons": ("Cloud", "Lock", "Weather"),
    }
    classes["emoji"] = tuple("ABCDEFGH")
    texts = np.array([f"word{i % 7} word{i % 5}".encode() for i in range(400)])
    own["brown"] = {"text": np.tile(texts, 2), "tags": np.array([b"NOUN VERB"] * 800), "document": np.arange(800) // 2}
    monkeypatch.setattr(
        data,
        "load_or_prepare",
        lambda name, split: data.from_columns({"text": texts, **own[name]}, name, classes.get(name, ())),
    )
    config = TransformerConfig(embed_dim=24, num_layers=6, num_heads=12, mlp_dim=8)
    head = TaskHead(1_000, read="features", problem="single_label_classification")
    encoders = {
        "minilm": ("bert", Encoders({"text": Bert(12, config, length=64, pooler=True)})),
        "efficientnet_lite0": ("resnet", Encoders({"image": ResNet(3, 2, (4,), (1,))}, {"logits": head})),
    }
    for name, (kind, module) in encoders.items():
        folder = tmp_path / name
        pretrained.save(folder, kind, module, pretrained.initial(module))
        (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "word"]))
        monkeypatch.setattr(packages, name, lambda folder=folder: folder)


LONG = (
    "sentiment",
    "emoji",
    "tags",
    "students_from_teachers",
    "av_digits_families",
)  # whose teachers take minutes to trace


@pytest.mark.full
@pytest.mark.parametrize(
    "file", [pytest.param(f, id=f.stem, marks=[pytest.mark.slow] if f.stem in LONG else []) for f in FILES]
)
def test_what_it_names_is_there(file, stand_ins):
    loaded = definition.load(file)
    trainings = loaded.trainings(loaded.config)
    assert definition.check(trainings, {})
    baseline = loaded.baseline if isinstance(loaded.baseline, dict) else {loaded.baseline: loaded.baseline}
    assert {*baseline, *baseline.values()} <= {*trainings}


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("easy_vqa", {"labels": 40, "tested": 30}),
        ("sentences", {"labels": 40, "tested": 30}),
        ("icons", {"batch": 8}),
        ("tagged_pictures", {"labels": 40}),
        pytest.param("ratings", {"batch": 8}, marks=pytest.mark.slow),
    ],
)
def test_two_steps_on_made_up_rows_give_scores(name, changed, stand_ins, tmp_path):
    """Two steps of the student that learns from labels alone."""
    loaded = definition.load(FILES[0].with_name(f"{name}.py"))
    config = dataclasses.replace(loaded.config, seeds=1, steps=2, **changed)
    one = {"labels": loaded.trainings(config)["labels"]}
    experiment = definition.Experiment(name, config, lambda config: one, "labels", None, "")
    ((result,),) = runner.run(experiment, options=runner.RunOptions(out=tmp_path / "run")).values()
    assert result["steps"] == 2 and np.isfinite(result[one["labels"].task.metric])


def asked(**changed):
    """The tiny experiment, its student changed: the second of two trainings."""

    def trainings(config):
        made = tiny_experiment.trainings(config)
        return made | {"student": dataclasses.replace(made["student"], **changed)}

    return definition.Experiment("made-up", tiny_experiment.Config(seeds=1), trainings, None, None, "")


BANK = combine(far=methods.crd(40, width=4, negatives=8))
FAR = np.where(np.arange(48) == 3, 1_000, np.arange(48)).astype(np.int32)
COLUMNS = tiny_experiment.trainings(tiny_experiment.config)["student"].data.dataset.columns
CASES = {
    "a further pass": (
        {"objective": combine(robust=methods.rslad("image", attack=PGD(steps=1))), "microbatches": 2},
        "training 'student': term 'robust': model 'student' is run again.*microbatches=1",
    ),
    "what does not divide": ({"microbatches": 3}, "training 'student': a batch of 16 rows does not divide into 3"),
    "a bank too small": ({"objective": BANK}, "training 'student': term 'far': its bank has 40 rows.*give it size=48"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_later_part_is_refused_from_shapes_alone(case):
    changed, said = CASES[case]
    loaded = asked(**changed)
    with pytest.raises(UserError, match=said):
        definition.check(loaded.trainings(loaded.config), {})


def test_what_only_the_data_tell_is_refused_before_the_first_part_trains(tmp_path):
    rows = data.from_columns({**COLUMNS, "example_id": FAR}, "made-up")
    loaded = asked(objective=combine(far=methods.crd(48, width=4, negatives=8)), data=data.InMemory(rows, 16))
    definition.check(loaded.trainings(loaded.config), {})
    with pytest.raises(UserError, match="training 'student': term 'far'.*goes to 1000: give it size=1001"):
        runner.run(loaded, loaded.config, options=runner.RunOptions(out=tmp_path / "run"))
    assert not (tmp_path / "run" / "trainings").exists()
