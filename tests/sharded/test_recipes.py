"""Recipes over eight devices give what one device gives: cached teachers, withheld modalities, stages, chains."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from mmkd_jax import data, experiment, recipes, runner
from mmkd_jax.tasks import classification
from tests.small import CLASSES, net

WIDTH = {"large": 8, "middle": 6, "small": 4}
DRAW = np.random.default_rng(0)
LABEL = (np.arange(48) % CLASSES).astype(np.int32)
ROWS = data.from_columns(
    {
        "image": (DRAW.random((48, 2, 3, 1)) + LABEL[:, None, None, None]).astype(np.float32),
        "audio": (DRAW.normal(size=(48, 4, 3)) * (1 + LABEL[:, None, None])).astype(np.float32),
        "label": LABEL,
        "labelled": np.arange(48) % 3 == 0,
    },
    "made-up",
)
SETTING = recipes.Setting(
    task=classification(CLASSES),
    few=data.Memory(ROWS.where("labelled"), 16),
    every=data.Memory(ROWS, 16),
    validation=data.Memory(ROWS, 48),
    test=data.Memory(ROWS, 48),
    model=lambda modalities, size: net(WIDTH[size], *modalities),
    optimizer=lambda size, steps: optax.sgd(0.1),
    steps=4,
    modalities=("image", "audio"),
    seen=("audio",),
    evaluate_every=2,
)
RECIPES = {
    "mtsd": recipes.mtsd(SETTING, missing=0.5),
    "hallucination": recipes.hallucination(SETTING),
    "teacher_assistant": recipes.teacher_assistant(dataclasses.replace(SETTING, sizes=("large", "middle", "small"))),
    "staged_hints": recipes.staged_hints(SETTING, share=0.5),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Tiny."""

    seeds: int = 1


def curves(parts, folder):
    ran = runner.run(
        experiment.Experiment("recipes", Config(), lambda config: parts, None, None, ""),
        Config(),
        out=folder,
        observer=runner.Observer(say=lambda line: None),
    )
    return {n: [h["loss"] for h in r[0]["history"]] for n, r in ran.items()}


@pytest.mark.parametrize("name", RECIPES)
def test_eight_devices_teach_like_one(tmp_path, monkeypatch, name):
    assert jax.device_count() == 8
    many = curves(RECIPES[name], tmp_path / "many")
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    one = curves(RECIPES[name], tmp_path / "one")
    for part, losses in one.items():
        assert many[part] == pytest.approx(losses, rel=1e-5), part
