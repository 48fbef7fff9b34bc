import errno
import os
import pathlib
import stat

import pytest

from mmkd_jax import files
from mmkd_jax.errors import UserError


def test_write_makes_folders_and_replaces_the_old_content(tmp_path):
    path = tmp_path / "a" / "b" / "note.txt"
    files.write(path, "old")
    files.write(path, b"new \xff")
    assert path.read_bytes() == b"new \xff"
    assert os.listdir(path.parent) == ["note.txt"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_text_is_written_as_utf_8(tmp_path):
    files.write(tmp_path / "x", "ä ±")
    assert (tmp_path / "x").read_bytes() == "ä ±".encode()


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_content_and_no_rubbish(tmp_path, monkeypatch, fails):
    path = tmp_path / "note.txt"
    files.write(path, "old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, fails, full)
    with pytest.raises(UserError) as error:
        files.write(path, "new")
    assert str(path) in str(error.value) and "no space is left" in str(error.value)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["note.txt"]


def test_a_write_that_is_interrupted_leaves_the_old_content_and_no_rubbish(tmp_path, monkeypatch):
    files.write(tmp_path / "note.txt", "old")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write(tmp_path / "note.txt", "new")
    assert (tmp_path / "note.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["note.txt"]


def test_the_new_content_is_complete_before_it_takes_the_place_of_the_old(tmp_path, monkeypatch):
    path, seen = tmp_path / "note.txt", []
    files.write(path, "old")
    replace = os.replace

    def watched(source, target):
        seen.append((path.read_text(), pathlib.Path(source).read_text()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    files.write(path, "new")
    assert seen == [("old", "new")]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space is left"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "--out"),
        (errno.EPERM, "--out"),
        (errno.EROFS, "read-only"),
        (errno.ENOTDIR, "is a file"),
    ],
)
def test_what_the_file_system_refuses_is_told_with_path_and_remedy(number, words):
    with pytest.raises(UserError) as error, files.reported("some/place", "saving to"):
        raise OSError(number, os.strerror(number))
    message = str(error.value)
    assert message.startswith("saving to some/place: ") and words in message
    assert "\n" not in message
    assert isinstance(error.value.__cause__, OSError)


def test_a_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match="is a file"):
        files.write(tmp_path / "taken" / "sub" / "note.txt", "x")


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_device_that_is_full():
    with pytest.raises(UserError, match="no space is left"), files.reported("/dev/full"):
        with open("/dev/full", "wb") as file:
            file.write(b"x")


@pytest.mark.parametrize(
    ("text", "words"),
    [("No space left on device", "no space"), ("Permission denied", "--out"), ("Read-only", "read-only")],
)
def test_tensorstores_refusals_are_told_in_the_same_way(text, words):
    with pytest.raises(UserError, match=words), files.reported("checkpoints/100"):
        raise ValueError(f"PERMISSION: writing chunk: {text} [source locations=…]")


def test_a_refusal_without_a_remedy_of_its_own_is_told_in_the_systems_words():
    with pytest.raises(UserError, match="writing x: Input/output error"), files.reported("x"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_other_errors_pass_through():
    with pytest.raises(ValueError, match="bad value"), files.reported("x"):
        raise ValueError("bad value")
    with pytest.raises(UserError, match="^mine$"), files.reported("x"):
        raise UserError("mine")


def test_unused_gives_the_first_free_name(tmp_path):
    path = tmp_path / "run.old"
    assert files.unused(path) == path
    path.mkdir()
    assert files.unused(path) == tmp_path / "run.old.1"
    (tmp_path / "run.old.1").mkdir()
    assert files.unused(path) == tmp_path / "run.old.2"
