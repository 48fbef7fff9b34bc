"""Saved on eight devices, gone on with on four, two, one and back: the same batches and the same losses."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent


def run(folder, devices, until):
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent.parent), "JAX_PLATFORMS": "cpu"}
    environment |= {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment["JAX_COMPILATION_CACHE_DIR"] = str(pathlib.Path.home() / ".cache" / "mmkd_jax" / "tests")
    command = [sys.executable, str(HERE / "one_run.py"), str(folder), str(until)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["devices"] == devices
    return found, done.stderr


@pytest.mark.slow
def test_from_eight_to_one_and_back(tmp_path):
    whole, _ = run(tmp_path / "whole", 1, 20)
    losses = []
    for devices, until in ((8, 4), (4, 8), (2, 12), (1, 16), (8, 20)):
        now, said = run(tmp_path / "moved", devices, until)
        assert until == 4 or "resuming from step" in said
        losses += now["losses"]
        assert now["rows"] == run_rows(whole, until)
    assert [step for step, _ in losses] == list(range(1, 21))
    assert [x for _, x in losses] == pytest.approx([x for _, x in whole["losses"]], rel=1e-5)


def run_rows(whole, until):
    """What one device would read next."""
    import numpy as np

    from mmkd_jax.data._order import order

    assert until <= len(whole["losses"])
    return order(np.array([0, 0], np.uint32), np.arange(24, dtype=np.uint32) + np.uint32(24 * until), 96)[0].tolist()
