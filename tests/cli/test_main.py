"""What a user sees: one clear line, the right exit code, nothing lost."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest

from mmkd_jax import cli, files

HERE = pathlib.Path(__file__).parents[1]
TINY = str(HERE / "tiny_experiment.py")


def call(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        cli.main(list(words))
    said = capsys.readouterr()
    return stopped.value.code or 0, said.out + said.err


def refused(capsys, *words):
    code, said = call(capsys, *words)
    assert code == 2, said
    assert "Traceback" not in said
    return said


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("done") / "run"
    with pytest.raises(SystemExit) as stopped:
        cli.main(["run", TINY, "--out", str(folder)])
    assert not stopped.value.code
    return folder


@pytest.fixture
def finished(done, tmp_path):
    return pathlib.Path(shutil.copytree(done, tmp_path / "run"))


def variant(tmp_path, old, new):
    text = pathlib.Path(TINY).read_text()
    assert old in text
    path = tmp_path / "variant.py"
    path.write_text(text.replace(old, new))
    return str(path)


def test_run_folder(finished):
    rows = json.loads((finished / "results.json").read_text())["rows"]
    assert [(r["training"], r["seed"]) for r in rows] == [
        ("teacher", 0),
        ("teacher", 1),
        ("student", 0),
        ("student", 1),
    ]
    assert all(0 <= r["accuracy"] <= 1 for r in rows)
    assert "second" not in (finished / "results.json").read_text()
    assert set(json.loads((finished / "timings.json").read_text())) - {"sha256"} == {
        f"{p}/{s}" for p in ("teacher", "student") for s in (0, 1)
    }
    for name in ("config.json", "environment.json", "table.md", "table.json", "table.txt"):
        assert (finished / name).stat().st_size > 0
    for name in ("learning_curves", "by_class", "examples"):
        assert (finished / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert list(finished.glob("events/student/1/*tfevents*"))


def test_more_seeds_go_on_in_the_same_folder(finished, capsys):
    before = {p: p.read_bytes() for p in finished.glob("trainings/*/*/*.safetensors")}
    code, said = call(capsys, "run", TINY, "--out", str(finished), "--seeds", "3")
    assert code == 0 and said.count("finished earlier") == 4
    assert len(json.loads((finished / "results.json").read_text())["rows"]) == 6
    assert all(p.read_bytes() == data for p, data in before.items())


def test_another_configuration_is_refused_by_field(finished, capsys):
    said = refused(capsys, "run", TINY, "--out", str(finished), "--width", "5")
    assert "config.width: 4 there, 5 now" in said and "--fresh" in said


def test_another_number_is_refused(finished, capsys):
    said = refused(capsys, "run", TINY, "--out", str(finished), "--student.objective.soft.temperature", "3")
    assert "'student' (seed 0, 1): objective.soft.temperature: 2.0 there, 3.0 now" in said and "'teacher'" not in said


def test_another_environment_is_said(finished, capsys):
    path = finished / "environment.json"
    files.write_json(path, files.read_json(path) | {"cores": 1})
    code, said = call(capsys, "run", TINY, "--out", str(finished))
    assert code == 0 and "cores: 1" in said and "may differ bitwise" in said


def test_changed_code_is_refused(finished, capsys, tmp_path):
    changed = tmp_path / "tiny_experiment.py"
    changed.write_text(pathlib.Path(TINY).read_text().replace("1e-2", "2e-2"))
    said = refused(capsys, "run", str(changed), "--out", str(finished))
    assert "'teacher' (seed 0, 1): its optimizer changed" in said, said
    assert "edited: tiny_experiment.py" in said, said


def test_fresh_keeps_the_old_run(finished, capsys):
    old = (finished / "results.json").read_bytes()
    code, said = call(capsys, "run", TINY, "--out", str(finished), "--fresh", "--steps", "10", "--seeds", "1")
    kept = finished.with_name("run.old")
    assert code == 0 and str(kept) in said
    assert (kept / "results.json").read_bytes() == old


def test_numbers_from_the_command_line_act(done, capsys, tmp_path):
    words = ["--student.objective.soft.weight", "0", "--seeds", "1"]
    code, _ = call(capsys, "run", TINY, "--out", str(tmp_path / "other"), *words)
    assert code == 0

    def variables(folder, training):
        return (folder / "trainings" / training / "0" / "variables.safetensors").read_bytes()

    assert variables(tmp_path / "other", "teacher") == variables(done, "teacher")
    assert variables(tmp_path / "other", "student") != variables(done, "student")


def test_stream_equals_memory(done, capsys, tmp_path):
    """Two readers, the same batches: the same losses up to the rounding of a scan against single steps."""
    code, said = call(capsys, "run", TINY, "--out", str(tmp_path / "stream"), "--stream", "--seeds", "1")
    assert code == 0, said
    curves = [
        [h["loss"] for h in json.loads((f / "trainings/student/0/result.json").read_text())["history"]]
        for f in (done, tmp_path / "stream")
    ]
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["frobnicate"], ["frobnicate", "--help"]),
        (["run", "nowhere/nothing.py"], ["nothing.py"]),
        (["run", TINY, "--no-such-field", "3"], ["no-such-field"]),
        (["run", TINY, "--steps", "many"], ["steps", "many"]),
        (
            ["run", TINY, "--student.objective.soft.temprature", "3"],
            ["temprature", "student.objective.soft.temperature"],
        ),
        (["run", TINY, "--objective.soft.temperature", "warm"], ["warm"]),
        (
            ["run", TINY, "--objective.soft.temperature", "0"],
            ["'student'", "'soft'", "kl: temperature is 0.0", "above 0"],
        ),
        (["data", "info", "nothing"], ["nothing", "av_digits"]),
        (["data", "frobnicate"], ["usage"]),
    ],
)
def test_wrong_words(capsys, words, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, *words)
    assert all(n in said for n in names), said
    assert not list(tmp_path.iterdir()), "something was begun"


def test_wrong_path_lists_those_that_exist(capsys, tmp_path):
    path = variant(tmp_path, 'teacher="teacher.logits"', 'teacher="teacher.logit"')
    said = refused(capsys, "run", path, "--out", str(tmp_path / "run"))
    assert "'student'" in said and "'soft'" in said and "teacher.logit" in said and "embedding" in said
    assert not (tmp_path / "run").exists()


def test_missing_modality(capsys, tmp_path):
    path = variant(tmp_path, 'Multimodal({"image"', 'Multimodal({"audio"')
    said = refused(capsys, "run", path, "--out", str(tmp_path / "run"))
    assert "'audio'" in said and "image" in said


def test_label_out_of_range(capsys, tmp_path):
    said = refused(capsys, "run", TINY, "--classes", "2", "--out", str(tmp_path / "run"))
    assert "label 2 in row 2" in said and "0 … 1" in said


def test_wrong_reference(capsys, tmp_path):
    path = variant(tmp_path, '"teacher.teacher"', '"teacher.pupil"')
    said = refused(capsys, "run", path, "--out", str(tmp_path / "run"))
    assert "teacher.pupil" in said and "teacher.teacher" in said


def test_damaged_variables_of_a_finished_part(finished, capsys):
    path = finished / "trainings/teacher/0/variables.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    shutil.rmtree(finished / "trainings/student/0")
    code, said = call(capsys, "run", TINY, "--out", str(finished))
    assert code == 0 and f"{path} is damaged (kept as variables.safetensors.damaged)" in said.replace("\n", " ")
    assert path.read_bytes()[:-1] == bytes(data[:-1]) and path.read_bytes() != bytes(data)


def test_no_permission(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    said = refused(capsys, "run", TINY, "--out", str(tmp_path / "file" / "run"))
    assert "--out" in said


def test_two_runs_in_one_folder(finished):
    import fcntl

    with open(finished / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [sys.executable, "-m", "mmkd_jax.cli", "run", TINY, "--out", str(finished)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent)
    assert done.returncode == 2 and "another run" in done.stderr


def test_debug_shows_the_trace():
    command = [sys.executable, "-m", "mmkd_jax.cli", "run", "nowhere.py", "--debug"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent)
    assert done.returncode != 0 and "Traceback" in done.stderr


def test_explain(capsys):
    code, said = call(capsys, "explain", TINY, "--student.objective.soft.temperature", "3")
    assert code == 0
    for piece in (
        "training teacher",
        "trained",
        "frozen, from teacher.teacher",
        "student.features.image float32[16, 4]",
    ):
        assert piece in said
    assert "soft: student.logits, teacher.logits (temperature 3, weight 1)" in said


def test_data_list_and_info(capsys):
    assert "av_digits" in call(capsys, "data", "list")[1]
    assert "6,000 rows" in call(capsys, "data", "info", "av_digits")[1]


def test_help(capsys):
    assert "mmkd COMMAND" in call(capsys, "--help")[1]
    code, said = call(capsys, "run", TINY, "--help")
    assert code == 0 and "--fresh" in said and "--width" in said


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize(
    "words", ["run", "cache", "explain", "losses", "data", "data info", "data prepare", "losses kl"]
)
def test_help_of_a_command(capsys, words, flag):
    code, said = call(capsys, *words.split(), flag)
    assert code == 0 and f"usage: mmkd {words.split()[0]} " in said, said


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["losses", "--help"], ["frobnicate"]])
def test_help_imports_no_jax(words):
    code = f"""import sys
from mmkd_jax import cli
try:
    cli.main({words!r})
except SystemExit:
    print("jax in memory:", "jax" in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "jax in memory: False" in done.stdout


KEEPS = '("logits",) if config.cached else None'


FROM_AFAR = '__import__("mmkd_jax.training.teacher_cache").training.teacher_cache.CacheSpec(("embedding",))'


@pytest.mark.parametrize("kept", ['("embedding",)', FROM_AFAR])
def test_an_output_that_the_cache_does_not_keep(capsys, tmp_path, kept):
    said = refused(capsys, "explain", variant(tmp_path, KEEPS, kept))
    assert "'teacher' has no 'logits'" in said
    assert "'teacher' is cached: add the output to cache=, which stores embedding" in said


def test_the_cache_is_not_blamed_for_what_its_model_never_had(capsys, tmp_path):
    path = variant(tmp_path, 'teacher="teacher.logits"', 'teacher="teacher.touch"')
    text = pathlib.Path(path).read_text()
    pathlib.Path(path).write_text(text.replace(KEEPS, '("logits",)'))
    said = refused(capsys, "explain", path)
    assert "'teacher' has no 'touch'" in said and "is cached" not in said


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("term(losses.kl,", "term(losses.k_l,", ["has no attribute 'k_l'", "close to it: kl"]),
        (
            "combine, term\n",
            "combine, term\nfrom mmkd_jax.methods import sed\n",
            ["cannot import", "close to it: seed"],
        ),
        ("    return {\n", "    return {{\n", ["'{' was never closed"]),
        ("    return {\n", "    return wieghts or {\n", ["name 'wieghts' is not defined"]),
    ],
)
def test_a_slip_in_the_file_is_one_line_with_its_place(capsys, tmp_path, old, new, said):
    path = variant(tmp_path, old, new)
    for command in ("explain", "run", "cache"):
        line = refused(capsys, command, path)
        assert f"variant.py:{1 + place(path, new)}: " in line and all(s in line for s in said), line
        assert line.count("\n") == 1


def place(path, new):
    text = pathlib.Path(path).read_text()
    changed = next(line for line in new.splitlines() if line not in pathlib.Path(TINY).read_text())
    return text.splitlines().index(next(line for line in text.splitlines() if changed in line))


def test_a_wrong_keyword_in_the_file(tmp_path):
    path = variant(tmp_path, "    return {\n", "    methods.crd(6_000, negative=4)\n    return {\n")
    pathlib.Path(path).write_text(pathlib.Path(path).read_text().replace("data, losses", "data, losses, methods"))
    # not in this process, where types are checked in other words
    command = [sys.executable, "-m", "mmkd_jax.cli", "explain", path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent)
    assert done.returncode == 2 and "crd()" in done.stderr and "'negative'" in done.stderr
    assert done.stderr.count("\n") == 1 and f"variant.py:{1 + place(path, '    methods.crd')}: " in done.stderr
