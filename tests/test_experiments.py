"""Every experiment of the repository is sound: all its paths, masks and names, from shapes alone."""

import dataclasses
import pathlib

import numpy as np
import pytest

from mmkd_jax import data, experiment, methods, pretrained, runner
from mmkd_jax.errors import UserError
from mmkd_jax.models import Bert, Encoders, ResNet
from mmkd_jax.objective import combine
from mmkd_jax.pretrained import packages
from tests import tiny_experiment

FILES = sorted((pathlib.Path(__file__).parents[1] / "experiments").glob("*.py"))


@pytest.fixture
def stand_ins(monkeypatch, tmp_path):
    """What experiments fetch, as made-up rows and small encoders."""
    draw = np.random.default_rng(0)
    own = {
        "sentiment_intensity": {"rating": draw.normal(size=400).astype(np.float32)}
        | {"ratings": draw.dirichlet(np.ones(9), 400).astype(np.float32), "source": np.zeros(400, np.int32)},
        "emoji": {"image": np.zeros((400, 72, 72, 3), np.uint8), "label": np.arange(400, dtype=np.int32) % 8},
    }
    texts = np.array([f"word{i % 7} word{i % 5}".encode() for i in range(400)])
    monkeypatch.setattr(data, "obtain", lambda name, split: data.from_columns({"text": texts, **own[name]}, name))
    encoders = {
        "minilm": ("bert", {"text": Bert(12, width=24, layers=6, heads=12, inner=8, length=64, pooler=True)}),
        "efficientnet_lite0": ("resnet", {"image": ResNet(3, 2, (4,), (1,))}),
    }
    for name, (kind, module) in encoders.items():
        folder, module = tmp_path / name, Encoders(module)
        pretrained.save(folder, kind, module, pretrained.initial(module))
        (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "word"]))
        monkeypatch.setattr(packages, name, lambda folder=folder: folder)


@pytest.mark.parametrize("file", FILES, ids=[f.stem for f in FILES])
def test_what_it_names_is_there(file, stand_ins):
    loaded = experiment.load(file)
    parts = loaded.parts(loaded.config)
    assert experiment.check(parts, {}) and loaded.baseline in parts


def asked(**changed):
    """The tiny experiment, its student changed: the second of two parts."""

    def parts(config):
        made = tiny_experiment.parts(config)
        return made | {"student": dataclasses.replace(made["student"], **changed)}

    return experiment.Experiment("made-up", tiny_experiment.Config(seeds=1), parts, None, None, "")


BANK = combine(far=methods.crd(40, width=4, negatives=8))
FAR = np.where(np.arange(48) == 3, 1_000, np.arange(48)).astype(np.int32)
COLUMNS = tiny_experiment.parts(tiny_experiment.config)["student"].data.dataset.columns
CASES = {
    "a further pass": (
        {"objective": combine(robust=methods.rslad("image", steps=1)), "microbatches": 2},
        "part 'student': term 'robust': model 'student' is run again.*microbatches=1",
    ),
    "what does not divide": ({"microbatches": 3}, "part 'student': a batch of 16 rows does not divide into 3"),
    "a bank too small": ({"objective": BANK}, "part 'student': term 'far': its bank has 40 rows.*give it size=48"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_later_part_is_refused_from_shapes_alone(case):
    changed, said = CASES[case]
    loaded = asked(**changed)
    with pytest.raises(UserError, match=said):
        experiment.check(loaded.parts(loaded.config), {})


def test_what_only_the_data_tell_is_refused_before_the_first_part_trains(tmp_path):
    rows = data.from_columns({**COLUMNS, "example_id": FAR}, "made-up")
    loaded = asked(objective=combine(far=methods.crd(48, width=4, negatives=8)), data=data.Memory(rows, 16))
    experiment.check(loaded.parts(loaded.config), {})
    with pytest.raises(UserError, match="part 'student': term 'far'.*goes to 1000: give it size=1001"):
        runner.run(loaded, loaded.config, out=tmp_path / "run")
    assert not (tmp_path / "run" / "parts").exists()
