"""Several processes train as one: the same numbers, one folder, one step at which all of them stop."""

import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

HERE = pathlib.Path(__file__).parent.parent
EXPERIMENT = HERE / "tiny_experiment.py"
# two processes may interleave their lines
GLOO = re.compile(
    r"\[Gloo\] Rank \d+| is connected to \d+ peer ranks\.| Expected number of connected peer ranks is : \d+"
)


def free_port():
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def launch(folder, *words, processes=2, devices=2, experiment=EXPERIMENT):
    """One command a process; each has its own virtual devices."""
    where = f"localhost:{free_port()}"
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "JAX_PLATFORMS": "cpu"}
    environment |= {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment["JAX_COMPILATION_CACHE_DIR"] = str(pathlib.Path.home() / ".cache" / "mmkd_jax" / "tests")
    command = [sys.executable, "-m", "mmkd_jax.cli", "run", str(experiment), "--out", str(folder), *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": environment}
    if processes == 1:
        return [subprocess.Popen(command, **pipes)]
    own = [["--coordinator", where, "--processes", str(processes), "--process", str(i)] for i in range(processes)]
    return [subprocess.Popen([*command, *more], **pipes) for more in own]


def ended(running, timeout=300):
    """(exit code, what it said) of each."""
    said = [p.communicate(timeout=timeout)[0] for p in running]
    return [(p.returncode, s) for p, s in zip(running, said, strict=True)]


def finish(folder, *words, **how):
    for code, said in ended(launch(folder, *words, **how)):
        assert code == 0, said


def curves(folder):
    paths = sorted(folder.glob("trainings/*/*/result.json"))
    return {str(p.relative_to(folder)): [h["loss"] for h in json.loads(p.read_text())["history"]] for p in paths}


def variables(folder):
    return {p.parent.parent.name: p.read_bytes() for p in sorted(folder.glob("trainings/*/*/variables.safetensors"))}


SIZE = ("--steps", "60", "--seeds", "1")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two") / "run"
    finish(folder, *SIZE)
    return folder


@pytest.mark.full
def test_two_processes_train_like_one(tmp_path, undisturbed):
    finish(tmp_path / "one", *SIZE, processes=1, devices=1)
    one, two = curves(tmp_path / "one"), curves(undisturbed)
    assert set(one) == set(two) == {"trainings/teacher/0/result.json", "trainings/student/0/result.json"}
    for name, losses in one.items():
        assert two[name] == pytest.approx(losses, rel=1e-5), name


@pytest.mark.slow
def test_streamed_rows_and_the_teacher_s_records_come_to_the_process_that_trains_on_them(tmp_path, undisturbed):
    finish(tmp_path / "run", *SIZE, "--stream", "--cached")
    (folder,) = (p for p in (tmp_path / "run/cache").iterdir() if p.is_dir())
    assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", "teacher.logits.bin"]
    for name, losses in curves(undisturbed).items():
        assert curves(tmp_path / "run")[name] == pytest.approx(losses, rel=1e-5), name


def stopped(folder, deaf):
    """Run until a checkpoint appears and send one process a signal: both stop, and the first alone says so."""
    running = launch(folder, *SIZE)
    seen = len(list(folder.glob("trainings/*/0/checkpoints/[0-9]*")))
    deadline = time.monotonic() + 120
    while all(p.poll() is None for p in running) and time.monotonic() < deadline:
        if len(list(folder.glob("trainings/*/0/checkpoints/[0-9]*"))) > seen:
            break
        time.sleep(0.01)
    running[deaf].send_signal(signal.SIGTERM)
    ends = ended(running)
    assert [code for code, _ in ends] == [128 + signal.SIGTERM] * 2, ends
    assert "stopped, " in ends[0][1]
    assert not GLOO.sub("", ends[1][1]).strip()  # one voice


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_at_one_step_and_they_resume(tmp_path, undisturbed):
    """With two processes bit for bit, with one up to rounding."""
    folder, copied = tmp_path / "run", tmp_path / "copied"
    stopped(folder, 0)
    shutil.copytree(folder, copied)
    stopped(folder, 1)
    finish(folder, *SIZE)
    assert variables(folder) == variables(undisturbed)
    ((code, said),) = ended(launch(copied, *SIZE, processes=1, devices=1))
    assert code == 0 and "resuming from step" in said, said
    for name, losses in curves(undisturbed).items():
        assert curves(copied)[name] == pytest.approx(losses, rel=1e-5), name


@pytest.mark.slow
def test_what_one_process_refuses_ends_all(tmp_path):
    (first, said), (second, _) = ended(launch(tmp_path / "run", "--objective.soft.heat", "3"))
    assert (first, second) == (2, 2) and "no hyperparameter --objective.soft.heat" in said
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("not a run")
    (first, said), (second, other) = ended(launch(tmp_path / "taken", *SIZE))
    assert (first, second) == (2, 2) and "is not the folder of a run" in said
    assert "process 0 stopped: see its message" in other


UNLIKE = """
import dataclasses, jax, numpy as np
from mmkd_jax.training import PretrainedVariables
from mmkd_jax.training.roles import Frozen
from tests.never_silent import setting

config = setting.Config()

def trainings(config):
    student = setting.teacher_and_student()["kd"]
    weights = PretrainedVariables({"params": {"w": np.full((4, 3), jax.process_index(), np.float32)}})
    teacher = Frozen(setting.model(), init_from=weights)
    return {"kd": dataclasses.replace(student, models={**student.models, "teacher": teacher})}
"""


@pytest.mark.slow
def test_processes_with_unlike_weights_are_refused(tmp_path):
    (tmp_path / "unlike.py").write_text(UNLIKE)
    for code, said in ended(launch(tmp_path / "run", experiment=tmp_path / "unlike.py")):
        assert code == 2 and "process 1 has other sources than process 0" in said, said
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_damaged_score_does_not_hold_two_processes(tmp_path, undisturbed):
    """The checkpoint is set aside by one process while the other waits, and both go on from the one before."""
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    for file in ("result.json", "variables.safetensors"):
        (folder / "trainings" / "teacher" / "0" / file).unlink()
    (folder / "trainings" / "teacher" / "0" / "checkpoints" / "50" / "metrics" / "metrics").write_text("{")
    finish(folder, *SIZE)
    assert variables(folder) == variables(undisturbed)
    assert (folder / "trainings" / "teacher" / "0" / "checkpoints" / "50.damaged").is_dir()


@pytest.mark.slow
def test_incomplete_words_about_processes_are_refused(tmp_path):
    ((code, said),) = ended(launch(tmp_path / "run", "--coordinator", "localhost:1", processes=1))
    assert code == 2 and "--processes, --process is not given" in said


@pytest.mark.slow
def test_processes_that_wait_for_a_cache_stop_on_request(tmp_path):
    cache = "--cached", "--cache", str(tmp_path / "cache")
    finish(tmp_path / "first", *SIZE, *cache)
    (lock,) = (tmp_path / "cache").glob(".teacher-*.lock")
    with open(lock) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        running = launch(tmp_path / "run", *SIZE, *cache)
        deadline = time.monotonic() + 120
        while not (tmp_path / "run/trainings/teacher/0/result.json").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(2)
        running[1].send_signal(signal.SIGTERM)
        ends = ended(running, timeout=60)
    assert [code for code, _ in ends] == [128 + signal.SIGTERM] * 2, ends
    assert "waiting for another run" in ends[0][1] and "before the first step" in ends[0][1]
    finish(tmp_path / "run", *SIZE, *cache)
