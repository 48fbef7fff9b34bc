"""Every wrong word is one line and code 2, and a run does not depend on who reads its output, or where."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest

import mmkd_jax
from mmkd_jax import cli, files
from mmkd_jax.cli import commands, terminal
from mmkd_jax.data import dataset
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import RunOptions, run_folder
from tests import tiny_experiment
from tests.never_silent.setting import teacher_and_student, train

TINY = tiny_experiment.__file__


def called(capsys, *words):
    """Return exit code, output and errors of a command in this process."""
    with pytest.raises(SystemExit) as exit:
        cli.main(list(words))
    out, err = capsys.readouterr()
    return exit.value.code, out, err


WRONG = {
    "an unknown command": (["rum", "x.py"], "unknown command 'rum', close to 'run'; there are: run, cache, "),
    "a command without its file": (["run"], "run needs an experiment file: mmkd run FILE"),
    "no such file": (["explain", "nowhere.py"], "no experiment nowhere.py"),
    "too many words": (["runs", "a", "b"], "usage: mmkd runs"),
    "an unknown loss": (["losses", "nope"], "nope"),
    "an unknown table": (["table", "nope"], "nope"),
    "an unknown data set": (["data", "info", "nope"], "nope"),
    "a number that is none": (["run", TINY, "--objective.soft.weight", "much"], "needs a number, not 'much'"),
    "an unknown option": (["run", TINY, "--nope", "3"], "unknown option --nope; see mmkd run"),
    "an option with a letter missing": (
        ["explain", TINY, "--seed", "3"],
        "unknown option --seed (close to --seeds); see mmkd",
    ),
    "a word too many": (["cache", TINY, "stray"], "unknown option stray; see mmkd cache"),
    "an option without its value": (["run", TINY, "--out"], "--out needs a value; see mmkd run"),
    "a word for a number": (
        ["run", TINY, "--steps", "many"],
        "--steps: invalid value 'many', expected INT",
    ),
    "a word for an optional number": (["run", TINY, "--profile", "x"], "--profile: invalid value 'x', expected INT"),
    "a word for a switch": (["run", TINY, "--fresh", "maybe"], "unknown option maybe"),
    "an option that a table does not have": (["table", "dkd", "--qick"], "--qick (close to --quick); see mmkd table"),
    "a word for a table's number": (["table", "dkd", "--seeds", "x"], "--seeds: invalid value 'x', expected INT"),
    "an old name": (["run", TINY, "--take", "x"], "`take` is now `init_from`"),
    "no steps to trace": (["run", TINY, "--profile", "0"], "--profile is 0; expected a number of steps, at least 1"),
    "nothing to lengthen": (["run", TINY, "--fresh", "--extend"], "--fresh starts over, so there is nothing to keep"),
    "no run to predict with": (["predict", "nowhere", "kd"], "nowhere"),
    "no run to export": (["export", "nowhere", "kd", "--to", "onnx"], "nowhere"),
    "no run to measure": (["measure", "nowhere"], "nowhere"),
    "no seeds": (["run", TINY, "--seeds", "0"], "seeds is 0; expected an integer of at least 1"),
    "no steps": (["run", TINY, "--steps", "0"], "steps=0: expected at least 1"),
    "a folder that is an address": (["run", TINY, "--out", "gs://bucket/run"], "only folders of this machine's"),
    "a cache that is an address": (["run", TINY, "--cache", "s3://bucket"], "only folders of this machine's"),
}


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_word_is_one_line(words, capsys, tmp_path, monkeypatch):
    """A wrong word on the command line → an error of one line that names it, and exit code 2."""
    monkeypatch.chdir(tmp_path)
    arguments, message = WRONG[words]
    code, _, err = called(capsys, *arguments)
    assert code == 2 and message in err and err.count("\n") == 1, err
    assert not list(tmp_path.iterdir())


def test_every_command_is_covered():
    assert {a[0] for a, _ in WRONG.values()} | {"cache"} >= set(commands._COMMANDS)


def test_help_and_version(capsys):
    """`--version`, and `--help` of every command → printed, with exit code 0."""
    assert called(capsys, "--version") == (0, f"mmkd_jax {mmkd_jax.__version__}\n", "")
    for command in ("losses", "runs", "data", "table"):
        code, out, _ = called(capsys, command, "--help")
        assert code == 0 and out.startswith("usage: mmkd")


def test_one_damaged_folder_does_not_hide_the_others(tmp_path):
    """`mmkd runs` over a damaged run folder → it is listed as damaged, beside the others."""
    for name in ("good", "bad"):
        folder = tmp_path / name
        files.write_json(folder / "config.json", {})
        files.write_json(folder / "trainings" / "a" / "0" / "result.json", {"validation": 0.5})
    (tmp_path / "bad" / "trainings" / "a" / "0" / "result.json").write_text("{")
    states = {pathlib.Path(path).name: (state, best) for path, state, _, best, _ in run_folder.runs(tmp_path)}
    assert states["good"] == ("stopped", "a 0.500 (1)")
    assert states["bad"][0] == "damaged" and "result.json is damaged" in states["bad"][1]


def test_where_a_run_stands(tmp_path):
    """`mmkd runs` for a run whose results were removed, or that was copied → "stopped"; the command names the copy."""
    train(tmp_path / "run", teacher_and_student(), options=RunOptions(command="mmkd run 'an experiment.py' --out run"))
    shutil.copytree(tmp_path / "run", tmp_path / "a copy")
    shutil.rmtree(tmp_path / "run" / "trainings" / "kd")
    found = {pathlib.Path(row[0]).name: row for row in run_folder.runs(tmp_path)}
    assert found["run"][1] == "stopped" and found["run"][4] == "mmkd run 'an experiment.py' --out run"
    assert found["a copy"][1] == "finished"
    assert found["a copy"][4] == f"mmkd run 'an experiment.py' --out '{tmp_path / 'a copy'}'"


def test_addresses_are_no_folders():
    """A path with :// in `--out` or `--cache` → refused before a folder is made."""
    with pytest.raises(UserError, match="--out gs:/bucket/x: only folders of this machine's file system"):
        RunOptions(out=pathlib.Path("gs://bucket/x"))
    with pytest.raises(UserError, match="--cache s3:/bucket: only folders of this machine's file system"):
        RunOptions(cache=pathlib.Path("s3://bucket"))


VALUES = [
    (("--width", "0"), "cannot be built with --width 0: ZeroDivisionError"),
    (("--width", "-3"), "cannot be built with --width -3: "),
    (("--seeds", "0"), "seeds is 0; expected an integer of at least 1"),
    (("--steps", "0"), "steps=0.*expected at least 1"),
    (("--student.objective.soft.temperature", "nan"), "is nan; expected a number"),
]
# more than the memory of any machine, and more than XLA compiles in an hour
HUGE = [
    (("--width", width), rf"need \S+ TiB, but a device has .* {width}") for width in ("20000000000", "999999999999")
]
BUILT = [
    (command, *value)
    for value in VALUES
    for command in ("run", "explain")
    if (command, value[0][0]) != ("explain", "--seeds")
] + [("run", *value) for value in HUGE]


@pytest.mark.parametrize(("command", "words", "said"), BUILT)
def test_values_that_nothing_can_be_built_with(capsys, tmp_path, command, words, said):
    """`--width 0`, `--steps 0`, `--seeds 0`, NaN → one line with the option and the reason, and code 2."""
    out = ["--out", str(tmp_path / "run")] if command == "run" else []
    code, _, err = called(capsys, command, TINY, *words, *out)
    assert code == 2 and re.search(said, err) and len(err.strip().splitlines()) == 1, err
    assert not (tmp_path / "run").exists()


def test_a_user_without_a_name_and_a_home(monkeypatch):
    """A user without a name and without HOME → shipped data load; for others, MMKD_DATA is asked for."""
    monkeypatch.setattr(pathlib.Path, "home", lambda: pathlib.Path("~nobody-of-this-name").expanduser())
    monkeypatch.delenv("MMKD_DATA", raising=False)
    assert dataset.load("av_digits", "test").size == 2_000
    with pytest.raises(UserError, match="the user has no home folder: set MMKD_DATA"):
        dataset.load("emoji", "train")


def command(*words, **environment):
    """Return the command line and environment of a run in a separate process."""
    places = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **environment}
    return [sys.executable, "-m", "mmkd_jax.cli", *words], {**os.environ, **places}


@pytest.mark.full
def test_a_folder_with_blanks_brackets_and_colons(tmp_path):
    """Blanks, brackets and emoji codes in a path → shown as they are; the command to resume can be pasted."""
    folder = tmp_path / "a b [red] :smile:"
    words, environment = command("run", TINY, "--seeds", "1", "--steps", "5", "--out", str(folder))
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(folder) in done.stdout.replace("\n", "")
    resumed = shlex.split(files.read_json(folder / "config.json")["command"])
    assert resumed == ["mmkd", *words[3:]]


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["head -c 1", "true", "cat > /dev/full"])
def test_nobody_reads_the_output(reader, tmp_path):
    """`| head`, a reader that went away, or a full disk behind standard output → the run still completes."""
    words, environment = command("run", TINY, "--seeds", "1", "--steps", "5", "--out", str(tmp_path / "run"))
    line = f"{shlex.join(words)} | {reader}" if "/dev/full" not in reader else f"{shlex.join(words)} > /dev/full"
    subprocess.run(line, shell=True, env=environment, capture_output=True)
    assert (tmp_path / "run" / "results.json").is_file() and (tmp_path / "run" / "table.txt").is_file()


@pytest.mark.slow
def test_without_a_home_in_locale_c(tmp_path):
    """No home, one that is read-only, locale C, no terminal, TMPDIR missing → the run still completes."""
    words, environment = command("run", TINY, "--seeds", "1", "--steps", "5", "--out", str(tmp_path / "run"))
    environment |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "HOME": "/proc/nowhere"}
    environment |= {"TMPDIR": str(tmp_path / "away")}
    done = subprocess.run(words, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert (tmp_path / "run" / "results.json").is_file()


def test_progress_without_a_terminal(monkeypatch, capsys):
    """Progress where there is no terminal → one log line every 30 seconds."""
    monkeypatch.setattr(terminal, "SECONDS_BETWEEN_LINES", -1)
    with terminal.callbacks(1, []) as shown:
        shown.on_start("kd [x]", 0, 10)
        shown.on_metrics("kd [x]", 0, {"step": 5, "loss": 0.5, "accuracy": 0.25})
    assert re.search(r"kd \[x\], seed 0: step 5 .*accuracy 0.25", capsys.readouterr().out)
