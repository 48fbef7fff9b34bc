"""Recipes over eight devices give what one device gives: cached teachers, withheld modalities, stages, chains."""

import dataclasses

import jax
import optax
import pytest

from mmkd_jax import recipes
from mmkd_jax.experiment import definition, runner
from tests.setting import setting

SETTING = setting(3, optax.sgd(0.1))
RECIPES = {
    "missing": recipes.missing_modalities(SETTING, missing=0.5),
    "hallucination": recipes.hallucination(SETTING),
    "teacher_assistant": recipes.teacher_assistant(dataclasses.replace(SETTING, sizes=("large", "middle", "small"))),
    "staged_hints": recipes.staged_hints(SETTING, share=0.5),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Tiny."""

    seeds: int = 1


def curves(trainings, folder):
    ran = runner.run(
        definition.Experiment("recipes", Config(), lambda config: trainings, None, None, ""),
        Config(),
        options=runner.RunOptions(folder),
        callbacks=runner.Callbacks(log=lambda line: None),
    )
    return {n: [h["loss"] for h in r[0]["history"]] for n, r in ran.items()}


LONG = ("teacher_assistant", "staged_hints")  # three trainings each


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LONG)) for n in RECIPES])
def test_eight_devices_teach_like_one(tmp_path, monkeypatch, name):
    assert jax.device_count() == 8
    many = curves(RECIPES[name], tmp_path / "many")
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    one = curves(RECIPES[name], tmp_path / "one")
    for training, losses in one.items():
        assert many[training] == pytest.approx(losses, rel=1e-5), training
