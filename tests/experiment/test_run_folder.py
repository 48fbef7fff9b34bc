"""Run folders of version 0.1, and modules beside an experiment's file."""

import json
import sys

import pytest

from mmkd_jax.errors import UserError
from mmkd_jax.experiment import definition, run_folder
from mmkd_jax.experiment.python_file import module


def folder_of_0_1(path):
    """What version 0.1 left of a run that was stopped."""
    (path / "parts" / "teacher" / "0" / "checkpoints" / "500").mkdir(parents=True)
    (path / "parts" / "labels" / "0").mkdir(parents=True)
    (path / "parts" / "labels" / "0" / "result.json").write_text(json.dumps({"arm": "labels", "validation": 0.5}))
    (path / "config.json").write_text(json.dumps({"experiment": "old", "code": "", "config": {}, "numbers": {}}))
    (path / "command.txt").write_text("mmkd run old.py\n")
    return path


def test_a_folder_of_0_1_is_listed(tmp_path):
    folder_of_0_1(tmp_path / "old")
    ((name, state, at, best, command),) = run_folder.runs(tmp_path)
    assert name.endswith("old") and state == "stopped" and at == "teacher, seed 0, step 500"
    assert best == "labels 0.500 (1)" and command == "mmkd run old.py"


def test_a_folder_of_0_1_is_not_resumed(tmp_path):
    old = folder_of_0_1(tmp_path / "old")
    with pytest.raises(UserError, match=r"old was written by an earlier mmkd_jax.*--fresh"):
        with run_folder.opened(old, False, print):
            pass
    with run_folder.opened(old, True, lambda line: None):
        assert (tmp_path / "old.old" / "parts").is_dir() and not (old / "parts").exists()


def test_a_file_imports_modules_that_lie_beside_it_and_not_those_of_another_folder(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "neighbor_of_file.py").write_text(f"NAME = {name!r}\n")
        (tmp_path / name / "file.py").write_text("import neighbor_of_file\n\nNAME = neighbor_of_file.NAME\n")
    before = list(sys.path)
    try:
        names = [module(tmp_path / name / "file.py", "table", ("NAME",)).NAME for name in ("one", "two", "one")]
    finally:
        sys.path[:] = before
        sys.modules.pop("neighbor_of_file", None)
    assert names == ["one", "two", "one"]


def test_what_a_file_lacks_is_named(tmp_path):
    (tmp_path / "own.py").write_text("config = 1\n")
    with pytest.raises(UserError, match="own.py does not define trainings"):
        definition.load(tmp_path / "own.py")
    (tmp_path / "own.py").write_text("class Config: ...\n\n\nconfig = trainings = 1\nBASELINE = 'labels'\n")
    with pytest.raises(UserError, match="own.py defines BASELINE, which is not read: write baseline"):
        definition.load(tmp_path / "own.py")
