"""From a folder of PNG, WAV and a CSV to a request over HTTP, by command line only."""

import contextlib
import csv
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).parents[2]
FORMS = ("stablehlo", "onnx", "safetensors")
pytestmark = pytest.mark.full


def command(*words, where, **keywords):
    done = subprocess.run([*map(str, words)], cwd=where, capture_output=True, text=True, **keywords)
    assert done.returncode == 0, f"{words}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def mmkd(*words, where):
    return command(sys.executable, "-m", "mmkd_jax.cli", *words, where=where, env=environment(where))


def environment(where):
    return os.environ | {"MMKD_DATA": str(where / "data"), "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files as a user has them, and what `mmkd run` makes of them."""
    where = tmp_path_factory.mktemp("own")
    command(sys.executable, ROOT / "examples" / "make_files.py", "patterns", "--rows", 240, where=where)
    experiment = ROOT / "examples" / "own_files.py"
    (where / "mine.py").write_text(experiment.read_text())
    printed = mmkd("data", "prepare", "mine.py", "--table", "patterns/table.csv", where=where)
    assert "distilled: " in printed
    assert " rows of test" in printed
    options = ("--table", "patterns/table.csv", "--seeds", 1, "--steps", 60, "--batch", 32, "--out", "run")
    printed = mmkd("run", "mine.py", *options, where=where)
    assert "distilled" in printed
    return where


def test_new_files_are_predicted_in_order_by_name_and_by_table(folder):
    """The experiment's file is not there; what the student needs is in the run folder."""
    (folder / "mine.py").rename(folder / "mine.txt")
    files = sorted((folder / "patterns" / "files").glob("*.wav"))[:5]
    names = [str(p.relative_to(folder)) for p in files]
    lines = mmkd("predict", "run", "distilled", "--sound", *names, where=folder).splitlines()
    one_by_one = [json.loads(line)["prediction"] for line in lines]
    with open(folder / "new.csv", "w", newline="") as file:
        csv.writer(file).writerows([["sound"], *[[n] for n in names]])
    mmkd("predict", "run", "distilled", "--table", "new.csv", "--out", "found.csv", where=folder)
    with open(folder / "found.csv", newline="") as file:
        assert [row["prediction"] for row in csv.DictReader(file)] == one_by_one
    assert set(one_by_one) <= {"flat", "upright", "rising", "falling"}
    assert len(one_by_one) == len(names)
    (folder / "mine.txt").rename(folder / "mine.py")


@pytest.mark.parametrize("form", FORMS)
def test_the_student_is_exported_and_compared(form, folder):
    printed = mmkd("export", "run", "distilled", "--to", form, "--out", f"as_{form}", where=folder)
    assert any((folder / f"as_{form}").iterdir())
    assert printed.strip()


def test_teacher_and_students_are_measured_side_by_side(folder):
    printed = mmkd("measure", "run", where=folder)
    assert {"teacher", "labels", "distilled"} <= set(printed.split())


def test_the_student_is_served(folder):
    """A client posts two recordings; a path of the server's machine and an unreadable file are refused."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, ROOT / "examples" / "serve.py", "run", "distilled", "--port", str(port)]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(subprocess.Popen(words, cwd=folder, env=environment(folder)))
        stack.callback(server.terminate)
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            assert server.poll() is None
            with contextlib.suppress(urllib.error.URLError):
                about = json.load(urllib.request.urlopen(address))
                break
            time.sleep(0.1)
        assert about["inputs"] == ["sound"]
        recorded = [p.read_bytes() for p in sorted((folder / "patterns" / "files").glob("*.wav"))[:2]]
        code, rows = post(address, [("sound", "a.wav", x) for x in recorded])
        assert code == 200
        assert [sum(row["probabilities"].values()) for row in rows] == pytest.approx([1.0, 1.0], abs=1e-5)
        assert [row["prediction"] in about["classes"] for row in rows] == [True, True]
        assert post(address, [("sound", "a.wav", b"no recording")])[0] == 422
        code, answer = post(address, [("sound", None, b"")])
        assert code == 422 and answer["detail"].startswith("row 0 has no sound, and this student does not read")
        assert post(address, [("sound", None, str(folder / "new.csv").encode())]) == (
            422,
            {"detail": "sound: expected a file"},
        )


def post(address, fields):
    """Send a form; returns status and content."""
    body = b""
    for name, file, content in fields:
        named = f'; filename="{file}"' if file else ""
        body += f'--edge\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + content + b"\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=edge"}
    request = urllib.request.Request(f"{address}/predict", body + b"--edge--\r\n", headers)
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
