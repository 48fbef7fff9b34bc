"""File access: atomic writes, locks, JSON files with a hash, and errors that name the remedy."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mmkd_jax.errors import UserError

Log = Callable[[str], None]


class Damaged(UserError):
    """A file's content is not what was written.

    Attributes:
        reason: how this was seen.
    """

    reason: str = ""


_REMEDIES = {
    errno.ENOSPC: "no space is left on the device: free some space, then run the same command again",
    errno.EDQUOT: "the disk quota is exceeded: free some space, then run the same command again",
    errno.EACCES: "permission denied: choose a writable folder with {option}",
    errno.EPERM: "permission denied: choose a writable folder with {option}",
    errno.EROFS: "the file system is read-only: choose another folder with {option}",
    errno.ENOTDIR: "a component of the path is a file: choose another folder with {option}",
}


@contextlib.contextmanager
def reported(path: str | os.PathLike, doing: str = "writing", option: str = "--out") -> Iterator[None]:
    """Convert file-system errors to a one-line `UserError` that names the path and the remedy.

    Args:
        path: path in the message.
        doing: what is done with it.
        option: option that sets the folder.
    """
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "{reason}: choose another folder with {option}")
        raise UserError(f"{doing} {path}: {remedy.format(reason=error.strerror, option=option)}") from error
    except UserError:
        raise
    except ValueError as error:  # tensorstore raises ValueError with the cause as text
        text = str(error)
        known = {"No space left on device": errno.ENOSPC, "Permission denied": errno.EACCES, "Read-only": errno.EROFS}
        for words, number in known.items():
            if words in text:
                raise UserError(f"{doing} {path}: {_REMEDIES[number].format(option=option)}") from error
        raise


def write(path: str | os.PathLike, data: str | bytes) -> None:
    """Write a file atomically: after a crash, or for concurrent readers, it has either the old or the new content.

    Raises:
        UserError: no space, no permission, or a read-only file system; names the path and the remedy.

    Example:
        >>> import tempfile, pathlib
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> write(folder / "a" / "note.txt", "whole")
        >>> (folder / "a" / "note.txt").read_text()
        'whole'
    """
    path = pathlib.Path(path)
    with reported(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            set_aside(path)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise


def write_folder(path: str | os.PathLike, fill: Callable[[pathlib.Path], None]) -> None:
    """Write a folder atomically: it has either the old or the new files, or, after a crash, is missing.

    Args:
        path: the folder; an existing one is replaced.
        fill: writes the files into the folder that it is called with.

    Raises:
        UserError: an error of `write`.

    Example:
        >>> import tempfile, pathlib
        >>> folder = pathlib.Path(tempfile.mkdtemp()) / "student"
        >>> write_folder(folder, lambda new: write(new / "note.txt", "whole"))
        >>> [p.name for p in folder.iterdir()]
        ['note.txt']
    """
    path = pathlib.Path(path)
    with reported(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{path.name}.*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        temporary = pathlib.Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            fill(temporary)
            os.chmod(temporary, 0o755)
            if os.path.lexists(path):
                path.rename(temporary.with_name(f"{temporary.name}.old"))
            temporary.rename(path)
        finally:
            for left in path.parent.glob(f".{path.name}.*"):
                shutil.rmtree(left, ignore_errors=True)


def read(path: str | os.PathLike) -> str:
    """Read a text file that `write` wrote: always UTF-8."""
    return pathlib.Path(path).read_text(encoding="utf-8")


def write_json(path: str | os.PathLike, value: dict[str, Any]) -> None:
    """Write a JSON object with the SHA-256 of its values, which `read_json` verifies."""
    write(path, hashed_json(value))


def hashed_json(value: dict[str, Any]) -> str:
    """Return the text that `write_json` writes; equal values give equal text."""
    return json.dumps({"sha256": digest(value), **value}, indent=1) + "\n"


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """Read a JSON object that `write_json` wrote.

    Raises:
        Damaged: the content is not what was written; names the file and the reason.
        FileNotFoundError: the file does not exist.

    Example:
        >>> import tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "scores.json"
        >>> write_json(path, {"accuracy": 0.646})
        >>> read_json(path)
        {'accuracy': 0.646}
        >>> _ = path.write_text(path.read_text().replace("646", "946"))
        >>> read_json(path)
        Traceback (most recent call last):
        mmkd_jax.files.Damaged: ...scores.json is damaged (it has another SHA-256 than recorded): delete it...
    """
    try:
        try:
            value = json.loads(read(path))
        except PermissionError:
            raise UserError(f"{path} cannot be read: permission denied") from None
        if not isinstance(value, dict) or "sha256" not in value:
            raise ValueError("it has no SHA-256")
        if value.pop("sha256") != digest(value):
            raise ValueError("it has another SHA-256 than recorded")
    except (ValueError, IsADirectoryError, NotADirectoryError) as error:
        damaged = Damaged(f"{path} is damaged ({error}): delete it, or the folder that contains it")
        damaged.reason = str(error)
        raise damaged from None
    return value


def recover_json(path: str | os.PathLike, log: Log = print) -> dict[str, Any] | None:
    """Read a JSON object that can be made again: None if it is missing, or damaged and therefore set aside."""
    try:
        return read_json(path)
    except FileNotFoundError:
        return None
    except Damaged as error:
        kept = set_aside(pathlib.Path(path))
        log(f"{path} is damaged ({error.reason}) and kept as {kept.name}")
        return None


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of keys.

    Example:
        >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sha256(path: str | os.PathLike) -> str:
    """SHA-256 of the content of a file, read in pieces.

    Raises:
        OSError: it cannot be read.

    Example:
        >>> sha256("/dev/null")[:8]
        'e3b0c442'
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_json(value: Any) -> Any:
    """Return a fingerprint as JSON values; others are represented by their `repr`.

    Raises:
        UserError: an object whose `repr` has its address, which differs in every process.

    Example:
        >>> import numpy as np
        >>> as_json({"rows": np.int64(3), "shape": (1, 2)})
        {'rows': 3, 'shape': [1, 2]}
    """
    if isinstance(value, Mapping):
        return {str(k): as_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(v) for v in value]
    value = value.item() if hasattr(value, "item") and not getattr(value, "shape", ()) else value
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if " at 0x" in (text := repr(value)):
        raise UserError(f"a fingerprint contains {text}, which differs in every process: give it a fixed `repr`")
    return text


def set_aside(path: pathlib.Path) -> pathlib.Path:
    """Rename a damaged file or folder to `NAME.damaged`, and return its new path."""
    kept = unused(path.with_name(f"{path.name}.damaged"))
    with reported(path, "renaming"):
        path.rename(kept)
    return kept


@contextlib.contextmanager
def locked(path: pathlib.Path, busy: Callable[[], None], option: str = "--out") -> Iterator[None]:
    """Hold a lock file, which the system releases when the process ends.

    Args:
        path: the lock file; its folder is created.
        busy: called each time another process has the lock; returns to try again, or raises.
        option: option that sets the folder, for messages.
    """
    with reported(path.parent, option=option):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            set_aside(path)
        file = open(path, "w")  # noqa: SIM115  closed below, so that its error is reported
    with file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                busy()
        try:
            same = os.path.samestat(os.fstat(file.fileno()), os.stat(path))
        except FileNotFoundError:
            same = False
        if not same:  # renamed with its folder since it was opened
            raise UserError(f"{path.parent} was renamed by another run: run the same command again")
        yield


def is_locked(path: pathlib.Path) -> bool:
    """Return whether another process holds a lock file."""
    if not path.is_file():
        return False
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def unused(path: pathlib.Path) -> pathlib.Path:
    """Return the first path that does not exist: path, path.1, path.2, …."""
    candidates = [path, *(path.with_name(f"{path.name}.{i}") for i in range(1, 10_000))]
    return next(p for p in candidates if not p.exists())


def changes(old: Any, new: Any, path: str = "") -> list[str]:
    """List the differences between two JSON values, field by field."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        return [line for k in keys for line in changes(old.get(k), new.get(k), f"{path}.{k}".lstrip("."))]
    return [] if old == new else [f"{path}: {_short(old)} there, {_short(new)} now"]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
