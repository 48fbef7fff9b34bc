"""Every byte of a run folder that is read again is verified: never other results, never a trace, never a dead end.

One damage a file in the second tier, by rotation; every damage of every file with `-m slow`.
"""

import ast
import json
import pathlib
import re
import shutil
from typing import Any

import numpy as np
import pytest

from mmkd_jax import files
from mmkd_jax.data import dataset
from mmkd_jax.deploy import program
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import Callbacks, RunOptions, final_report, run, runner
from mmkd_jax.training import compiled, loop
from mmkd_jax.training import identity as identities
from tests.never_silent.setting import Config, experiment, teacher_and_student
from tests.small import with_role

SEED = 0  # rotates the damages


def flipped(path):
    """Flip bits at several places."""
    content = bytearray(path.read_bytes())
    for place in {len(content) // 4, len(content) // 2, 3 * len(content) // 4} if content else ():
        content[place] ^= 0x11
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path):
    path.write_bytes(b"")


def deleted(path):
    path.unlink()


def a_folder(path):
    path.unlink()
    path.mkdir()


DAMAGES = [flipped, cut, emptied, deleted, a_folder]
VERIFIED = re.compile(r"(result|code|environment|manifest|progress.*)\.json$|\.safetensors$|\.bin$")


def trainings():
    made = teacher_and_student(steps=8, save_every=2, evaluate_every=2)
    made["kd"] = with_role(made["kd"], "teacher", cache=("logits",))
    return made


TRAININGS = trainings()


def go_on(folder, stop_after=None):
    """Run the experiment in a folder; returns the lines that it printed."""
    lines: list[str] = []

    def should_stop():
        return stop_after is not None and any(stop_after in str(p) for p in folder.rglob("*"))

    run(
        experiment(TRAININGS),
        Config(),
        options=RunOptions(folder),
        callbacks=Callbacks(log=lines.append, should_stop=should_stop),
    )
    return lines


@pytest.fixture(scope="module")
def quick():
    """Programs and identities are computed once for all cases, and figures are left out."""
    patch = pytest.MonkeyPatch()

    def once(function):
        known: dict[int, Any] = {}

        def call(training, *rest, **more):
            if id(training) not in known:
                known[id(training)] = function(training, *rest, **more)
            return known[id(training)]

        return call

    patch.setattr(runner, "identity", once(identities.identity))
    patch.setattr(compiled, "compile_training", once(compiled.compile_training))
    patch.setattr(runner, "export_training", once(program.export_training))
    patch.setattr(final_report, "write_report", lambda *given: None)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def runs(tmp_path_factory, quick):
    """A finished run, and runs that were stopped while teacher, cache and student were made."""
    root = tmp_path_factory.mktemp("runs")
    go_on(root / "finished")
    stops = {"teacher": "teacher/0/checkpoints/4", "cache": "cache/teacher-", "student": "kd/0/checkpoints/4"}
    for name, path in stops.items():
        with pytest.raises(loop.Interrupted):
            go_on(root / name, path)
    return root


def results(folder):
    return json.loads((folder / "results.json").read_text())


def files_of(folder):
    """Files of a run; figures and events are only written."""
    found = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    return [p for p in found if "figures" not in p.parts and "events" not in p.parts]


def damage(runs, tmp_path, state, file, how):
    folder = tmp_path / "run"
    shutil.copytree(runs / state, folder)
    how(folder / file)
    try:
        lines = go_on(folder)
    except UserError as error:
        lines = [str(error)]
        assert str(file).split("/")[-1] in lines[0] or "damaged" in lines[0], lines
        assert "\n" not in lines[0]
    else:
        assert results(folder) == results(runs / "finished")
    read_again = VERIFIED.search(str(file)) and not (state == "finished" and {"cache", "checkpoints"} & set(file.parts))
    unwritten = state == "cache" and how is cut and file.suffix == ".bin"  # the cut half had no records yet
    if read_again and how is not deleted and not unwritten:
        assert any("damaged" in line for line in lines), (state, file, how.__name__, lines)
    go_on(folder)  # never a dead end
    assert results(folder) == results(runs / "finished")


def another_digit(path):
    """The best validation metric, in the metadata of a checkpoint, has another digit."""
    text = path.read_text()
    changed = re.sub(r'(\\"best\\": 0\.)\d', lambda m: m[1] + ("9" if text[m.end() - 1] != "9" else "1"), text)
    assert changed != text
    path.write_text(changed)


@pytest.mark.full
def test_another_digit_in_the_metadata_of_a_checkpoint(runs, tmp_path):
    """A digit of the best metric changes in a checkpoint → it is named and set aside; the one before is resumed."""
    checkpoints = runs / "student" / "trainings" / "kd" / "0" / "checkpoints"
    newest = max((p for p in checkpoints.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
    shutil.copytree(runs / "student", tmp_path / "run")
    another_digit(tmp_path / "run" / newest.relative_to(runs / "student") / "_CHECKPOINT_METADATA")
    lines = go_on(tmp_path / "run")
    assert any(f"checkpoint {newest.name} is damaged" in line and "another SHA-256" in line for line in lines), lines
    assert results(tmp_path / "run") == results(runs / "finished")


@pytest.fixture
def prepared(tmp_path):
    shutil.copytree(dataset.SHIPPED / "av_digits", tmp_path / "data" / "av_digits")
    return tmp_path / "data"


def hashed(change):
    """A change of the record that is valid JSON."""

    def apply(path):
        record = json.loads(path.read_text())
        change(record)
        path.write_text(json.dumps(record))

    return apply


RECORD = {
    "files": hashed(lambda record: record.update(files={})),
    "rows": hashed(lambda record: record["splits"]["train"].update(rows=5_999)),
    "content": hashed(lambda record: record["splits"]["train"].update(content="0" * 64)),
    "sha256": hashed(lambda record: record.pop("sha256")),
}


@pytest.mark.parametrize("how", [*DAMAGES, *RECORD], ids=lambda how: getattr(how, "__name__", how))
def test_a_damaged_record_of_a_data_set(prepared, how):
    """`record.json` of a prepared data set is damaged, or its rows, hashes or files are changed → refused by name."""
    path = prepared / "av_digits" / "1.0.0" / "record.json"
    RECORD.get(how, how)(path)
    with pytest.raises(UserError, match="record.json is damaged|is not prepared") as error:
        dataset.load("av_digits", "train", prepared)
    assert "mmkd data prepare av_digits" in str(error.value)


@pytest.mark.parametrize("how", DAMAGES)
def test_damaged_rows_of_a_data_set(prepared, how):
    """A file of a prepared data set is damaged → refused by name when its rows are read."""
    path = next((prepared / "av_digits" / "1.0.0").glob("*test*record*"))
    how(path)
    with pytest.raises(UserError, match=f"{path.name}.*(is damaged|is missing).*mmkd data prepare av_digits"):
        dataset.load("av_digits", "test", prepared).take(np.arange(1))


@pytest.mark.parametrize(("versions", "newest"), [(["1.9.0", "1.10.0"], "1.10.0"), (["2.0.0", "10.0.0"], "10.0.0")])
def test_versions_are_numbers(tmp_path, versions, newest):
    """Several versions of a data set are prepared → 1.10.0 is newer than 1.9.0."""
    for version in versions:
        files.write_json(tmp_path / "mine" / version / "record.json", {})
    assert dataset.find("mine", tmp_path).name == newest


@pytest.mark.full
@pytest.mark.parametrize(
    "state", ["finished", *(pytest.param(s, marks=pytest.mark.slow) for s in ("teacher", "cache")), "student"]
)
def test_one_damage_a_file(runs, tmp_path, state):
    """A file of a run is flipped, cut, emptied, deleted, or a folder → named, set aside, made again; equal results."""
    names = [p.relative_to(runs / state) for p in files_of(runs / state)]
    assert len(names) > 5
    for i, name in enumerate(names):
        damage(runs, tmp_path / str(i), state, name, DAMAGES[(i + SEED) % len(DAMAGES)])


@pytest.mark.slow
@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("state", ["finished", "teacher", "cache", "student"])
def test_every_damage_of_every_file(runs, tmp_path, state, how):
    """Each of these damages to each file → the same."""
    for i, path in enumerate(files_of(runs / state)):
        damage(runs, tmp_path / str(i), state, path.relative_to(runs / state), how)


READS = {"open", "read_text", "read_bytes", "memmap", "fromfile", "load_file", "pread", "safe_open"}
# module that reads from a disk -> why a damaged byte cannot go unnoticed there
VERIFIED_BY = {
    "files.py": "SHA-256 in each JSON file (`read_json`); `sha256` itself",
    "foreign_files.py": "opened for the modules of data and pretrained below",
    "cli/terminal.py": "reads the processor's name, for the folder of compiled programs; writes to the null device",
    "cli/predicting.py": "writes predictions",
    "data/chat.py": "its files are part of the tokenizer's",
    "data/commands.py": "hashes what it has just built, for the record",
    "data/dataset.py": "SHA-256 of each file in the record, which has one itself",
    "data/picture_file.py": "pictures of the user's, decoded by Pillow",
    "data/film.py": "films of the user's, decoded by FFmpeg",
    "data/animation.py": "animations of the user's, decoded by Pillow",
    "data/preprocess/saved.py": "SHA-256 of each file in preprocess.json, which has one itself",
    "data/raw/prepared.py": "SHA-256 of each file in the record, which has one itself",
    "data/raw/preparation.py": "source files, which are hashed",
    "data/raw/table_file.py": "tables of the user's",
    "data/processor_file.py": "a folder of pretrained weights, whose fingerprint is in each result",
    "data/sounds.py": "recordings of the user's",
    "data/sources.py": "SHA-256 pinned in the source",
    "data/datasets/emoji.py": "SHA-256 pinned in the source",
    "data/datasets/easy_vqa.py": "SHA-256 pinned in the source",
    "data/tokenizer.py": "its files are part of the data's fingerprint",
    "deploy/folder.py": "SHA-256 of each file in the signature, which has one itself",
    "experiment/source_files.py": "source files, which are hashed",
    "paper_tables/run.py": "SHA-256 in each file of arrays, and source files",
    "pretrained/folder.py": "a folder of pretrained weights, whose fingerprint is in each result",
    "pretrained/pickled.py": "a folder of pretrained weights, whose fingerprint is in each result",
    "training/teacher_cache.py": "CRC-32 of each file, and of each chunk while it is made",
    "variables_file.py": "SHA-256 of the variables in the result, or in the signature of a student",
}


def test_every_read_of_a_file_is_verified():
    """A module of the package reads a file → by a hash, a checksum or a fingerprint; a new reader fails this test."""
    root = pathlib.Path(files.__file__).parent
    reads = set()
    for path in root.rglob("*.py"):
        calls = [n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        names = {f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "") for f in calls}
        if names & READS:
            reads.add(path.relative_to(root).as_posix())
    assert reads == set(VERIFIED_BY)
