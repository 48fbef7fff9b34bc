"""The whole loop over eight devices gives what one device gives, from memory and streamed."""

import json

import jax
import pytest

from mmkd_jax.experiment import definition, runner
from tests import tiny_experiment

CONFIG = tiny_experiment.Config(seeds=1, steps=20)


def curves(folder, config):
    loaded = definition.load(tiny_experiment.__file__)
    runner.run(loaded, config, options=runner.RunOptions(out=folder), callbacks=runner.Callbacks(log=lambda line: None))
    return [
        [h["loss"] for h in json.loads((folder / "trainings" / p / "0" / "result.json").read_text())["history"]]
        for p in ("teacher", "student")
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_eight_devices_train_like_one(tmp_path, monkeypatch, stream):
    assert jax.device_count() == 8
    many = curves(tmp_path / "many", tiny_experiment.Config(seeds=1, steps=20, stream=stream))
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    one = curves(tmp_path / "one", CONFIG)
    for a, b in zip(many, one, strict=True):
        assert a == pytest.approx(b, rel=1e-5)
