"""Eight devices compute and read the same records as one."""

import jax
import numpy as np

from mmkd_jax.experiment import definition, runner
from tests import tiny_experiment

CONFIG = tiny_experiment.Config(seeds=1, steps=20, cached=True)


def run(folder):
    loaded = definition.load(tiny_experiment.__file__)
    results = runner.run(
        loaded, CONFIG, options=runner.RunOptions(out=folder), callbacks=runner.Callbacks(log=lambda line: None)
    )
    (records,) = (p for p in (folder / "cache").iterdir() if p.is_dir())
    return [h["loss"] for h in results["student"][0]["history"]], np.fromfile(records / "teacher.logits.bin", "<f4")


def test_eight_devices_are_one(tmp_path, monkeypatch):
    assert jax.device_count() == 8
    many, records = run(tmp_path / "many")
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    one, own = run(tmp_path / "one")
    np.testing.assert_allclose(many, one, rtol=1e-5)
    np.testing.assert_allclose(records, own, atol=1e-5)
    assert records.shape == (48 * 3,)
