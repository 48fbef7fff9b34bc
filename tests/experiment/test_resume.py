"""Killed at any moment, the same command goes on and ends with the same bits."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

HERE = pathlib.Path(__file__).parents[1]
EXPERIMENT = HERE / "tiny_experiment.py"
SIZE = ("--steps", "100", "--seeds", "1")  # ten checkpoints of each training


def launch(folder, *words):
    command = [sys.executable, "-m", "mmkd_jax.cli", "run", str(EXPERIMENT), "--out", str(folder), *words]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment["JAX_COMPILATION_CACHE_DIR"] = str(pathlib.Path.home() / ".cache" / "mmkd_jax" / "tests")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=environment, **pipes)


def finish(folder, *words):
    process = launch(folder, *words)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def outcome(folder):
    """What must be bit-identical: results, and the variables of every training and seed."""
    found = sorted([folder / "results.json", *folder.glob("trainings/*/*/variables.safetensors")])
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}


def steps_saved(folder):
    return sorted(p for p in folder.glob("trainings/*/*/checkpoints/*") if p.name.isdigit())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(folder, *SIZE)
    return outcome(folder)


def kill_when(folder, ready, number=signal.SIGKILL):
    process = launch(folder, *SIZE)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline and not ready():
        time.sleep(0.002)
    process.send_signal(number)
    said, _ = process.communicate(timeout=120)
    return process.returncode, said


@pytest.mark.full
def test_sigkill_and_resume_gives_the_same_bits(tmp_path, undisturbed):
    folder = tmp_path / "run"
    code, _ = kill_when(folder, lambda: len(steps_saved(folder)) >= 2)
    assert code == -signal.SIGKILL
    assert not (folder / "results.json").exists()
    first = {p: p.stat().st_mtime_ns for p in folder.glob("trainings/*/*/result.json")}
    # the second time in the second training, in the middle of a save
    saving = folder.glob
    code, said = kill_when(folder, lambda: any(saving("trainings/student/0/checkpoints/*tmp*")))
    assert code == -signal.SIGKILL and "resuming from step" in said
    said = finish(folder, *SIZE)
    assert "finished earlier" in said
    assert outcome(folder) == undisturbed
    for path, when in first.items():
        assert path.stat().st_mtime_ns == when, f"{path} was made again"


@pytest.mark.slow
def test_sigkill_at_thirty_random_instants(tmp_path, undisturbed):
    """Each run is killed up to three times, wherever it is: starting, compiling, training, saving, writing."""
    draw, killed, saving, trial = random.Random(0), 0, 0, 0
    while killed < 30:
        folder, trial = tmp_path / str(trial), trial + 1
        for _ in range(3):
            moment = time.monotonic() + draw.uniform(1.5, 6)
            code, said = kill_when(folder, lambda moment=moment: time.monotonic() > moment)
            assert code in (0, -signal.SIGKILL), said
            killed += code == -signal.SIGKILL
            saving += bool(list(folder.glob("trainings/*/*/checkpoints/*tmp*")))
        finish(folder, *SIZE)
        assert outcome(folder) == undisturbed, f"trial {trial}"
    print(f"{killed} kills in {trial} runs, {saving} of them within a save")


@pytest.mark.full
def test_ctrl_c_saves_and_says_how_to_resume(tmp_path, undisturbed):
    folder = tmp_path / "run"
    code, said = kill_when(folder, lambda: len(steps_saved(folder)) >= 1, signal.SIGINT)
    assert code == 130, said
    assert f"mmkd run {EXPERIMENT} --out {folder} {' '.join(SIZE)}" in said and "Traceback" not in said
    finish(folder, *SIZE)
    assert outcome(folder) == undisturbed


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_falls_back(tmp_path, undisturbed):
    folder = tmp_path / "run"
    kill_when(folder, lambda: len(steps_saved(folder)) >= 2, signal.SIGTERM)
    newest = max(folder.glob("trainings/teacher/0/checkpoints/*"), key=lambda p: int(p.name))
    data = max(newest.rglob("d/*"), key=lambda p: p.stat().st_size)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 0xFF
    data.write_bytes(content)
    said = finish(folder, *SIZE)
    assert f"checkpoint {newest.name} is damaged" in said and "resuming from step" in said
    assert newest.with_name(newest.name + ".damaged").is_dir()
    assert outcome(folder) == undisturbed
