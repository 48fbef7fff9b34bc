"""Atomic file writes, with errors that name the remedy."""

import contextlib
import errno
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

from mmkd_jax.errors import UserError

_REMEDIES = {
    errno.ENOSPC: "no space is left on the device: free some space, then run the same command again",
    errno.EDQUOT: "the disk quota is exceeded: free some space, then run the same command again",
    errno.EACCES: "permission denied: choose a writable folder with --out",
    errno.EPERM: "permission denied: choose a writable folder with --out",
    errno.EROFS: "the file system is read-only: choose another folder with --out",
    errno.ENOTDIR: "a component of the path is a file: choose another folder with --out",
}


@contextlib.contextmanager
def reported(path: str | os.PathLike, doing: str = "writing") -> Iterator[None]:
    """Convert file-system errors to a one-line `UserError` that names the path and the remedy."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, f"{error.strerror}: choose another folder with --out")
        raise UserError(f"{doing} {path}: {remedy}") from error
    except ValueError as error:  # tensorstore raises ValueError with the cause as text
        text = str(error)
        known = {"No space left on device": errno.ENOSPC, "Permission denied": errno.EACCES, "Read-only": errno.EROFS}
        for words, number in known.items():
            if words in text:
                raise UserError(f"{doing} {path}: {_REMEDIES[number]}") from error
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


def read(path: str | os.PathLike) -> str:
    """Read a text file that `write` wrote: always UTF-8."""
    return pathlib.Path(path).read_text(encoding="utf-8")


def read_json(path: str | os.PathLike) -> Any:
    """Read a JSON file that `write` wrote.

    Raises:
        UserError: the file is damaged; names it.
        FileNotFoundError: the file does not exist.
    """
    try:
        return json.loads(read(path))
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): delete it, or the folder that contains it") from None


def unused(path: pathlib.Path) -> pathlib.Path:
    """Return the first path that does not exist: path, path.1, path.2, …."""
    candidates = [path, *(path.with_name(f"{path.name}.{i}") for i in range(1, 10_000))]
    return next(p for p in candidates if not p.exists())


def changes(old: Any, new: Any, path: str = "") -> list[str]:
    """List the differences between two records, field by field; `config.seeds` may differ."""
    if path == "config.seeds":
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        return [line for k in keys for line in changes(old.get(k), new.get(k), f"{path}.{k}".lstrip("."))]
    if old == new:
        return []
    if path == "code":
        return ["the experiment's code changed"]
    return [f"{path}: {old} there, {new} now"]
