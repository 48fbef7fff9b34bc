"""A run folder is one run's: never taken from another run, mixed with other files, or moved by the experiment."""

import fcntl
import multiprocessing
import os
import pathlib
import time

import pytest

from mmkd_jax import cli, files
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import RunOptions, runner, saved
from mmkd_jax.training.identity import identity
from tests.never_silent.setting import teacher_and_student, train


def teacher():
    return {"teacher": teacher_and_student()["teacher"]}


def test_fresh_leaves_a_run_at_work_alone(tmp_path):
    """`--fresh` while another run writes to the folder → refused; nothing is renamed."""
    folder = tmp_path / "run"
    train(folder, teacher())
    before = sorted(folder.rglob("*"))
    with open(folder / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another run is writing to"):
            train(folder, teacher(), options=RunOptions(fresh=True))
    assert sorted(folder.rglob("*")) == before and not (tmp_path / "run.old").exists()


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_of_something_else(tmp_path, fresh):
    """`--out` names a folder that holds something else → refused, with and without `--fresh`; it stays as it was."""
    folder = tmp_path / "thesis"
    folder.mkdir()
    for name in ("chapter.tex", "config.json"):  # a folder of pretrained weights has a config.json, too
        (folder / name).write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="thesis is not empty and is not the folder of a run: use another folder"):
        train(folder, teacher(), options=RunOptions(fresh=fresh))
    assert sorted(os.listdir(folder)) == ["chapter.tex", "config.json"]
    with pytest.raises(UserError, match="is a file"):
        train(folder / "chapter.tex", teacher(), options=RunOptions(fresh=fresh))


def test_out_is_a_folder(monkeypatch, tmp_path):
    """`--out ''` → refused; `--out .` → the working directory, if it is empty or a run."""
    with pytest.raises(UserError, match="--out is empty"):
        RunOptions(out=pathlib.Path(" "))
    monkeypatch.chdir(tmp_path)
    for words in (["--out", ""], ["--out="]):
        with pytest.raises(SystemExit) as end:
            cli.main(["run", TINY, *words])
        assert end.value.code == 2 and not list(tmp_path.iterdir())
    train(pathlib.Path("."), teacher())
    assert (tmp_path / "results.json").is_file()
    train(pathlib.Path("."), teacher(), options=RunOptions(fresh=True))
    assert (tmp_path / "results.json").is_file() and (
        tmp_path.with_name(f"{tmp_path.name}.old") / "results.json"
    ).is_file()


TINY = str(pathlib.Path(__file__).parents[1] / "tiny_experiment.py")
EXPERIMENT = """
import dataclasses, os, tempfile
from tests.never_silent import setting

os.chdir(tempfile.mkdtemp())
config = setting.Config()

def trainings(config):
    os.chdir(tempfile.mkdtemp())
    return {"teacher": setting.teacher_and_student()["teacher"]}
"""


@pytest.mark.full
def test_an_experiment_that_changes_the_working_directory(monkeypatch, tmp_path):
    """The experiment's file changes the working directory → `--out` stays relative to where it was started."""
    (tmp_path / "moves.py").write_text(EXPERIMENT)
    monkeypatch.chdir(tmp_path)
    for words in (["--out", "here"], []):
        with pytest.raises(SystemExit) as end:
            cli.main(["run", "moves.py", *words])
        assert not end.value.code
        os.chdir(tmp_path)
    assert (tmp_path / "here" / "results.json").is_file() and (tmp_path / "runs" / "moves" / "results.json").is_file()


@pytest.mark.parametrize("other", ["config", "code", "settings", "data", "sources"])
def test_processes_that_differ(monkeypatch, other):
    """Processes of one run were started with other code, numbers, data or weights → all refuse before a step."""
    seen = []

    def gathered(value):
        seen.append(value)
        return [value, value + (len(seen) == 1 + ["config", "code", "settings", "data", "sources"].index(other))]

    monkeypatch.setattr(runner.sharding, "process_allgather", gathered)
    trainings = teacher_and_student()
    known = {n: identity(t) for n, t in trainings.items()}
    configuration = saved.Configuration({}, {}, "")
    with pytest.raises(UserError, match=f"process 1 has other {other} than process 0: start all processes with"):
        runner._check_processes(configuration, known, trainings, 1)


def _hold(path, seconds):
    with files.locked(path, lambda: None):
        path.with_suffix(".held").touch()
        time.sleep(seconds)


def test_a_cache_is_made_by_one_run_at_a_time(tmp_path):
    """Two runs compute the same shared cache → the second one waits for the first, and says so."""
    lock, waits = tmp_path / ".teacher.lock", []
    other = multiprocessing.get_context("spawn").Process(target=_hold, args=(lock, 1.0))
    other.start()
    while not lock.with_suffix(".held").exists():
        time.sleep(0.01)
    with files.locked(lock, lambda: waits.append(time.sleep(0.05))):
        assert waits and not files.is_locked(tmp_path / "none")
    other.join()
