"""Writing files: whole or not at all, with an error that says what to do."""

import contextlib
import errno
import os
import pathlib
import tempfile
from collections.abc import Iterator

from mmkd_jax.errors import UserError

_REMEDIES = {
    errno.ENOSPC: "no space is left on the device: free some, and run the same command again",
    errno.EDQUOT: "the disk quota is used up: free some space, and run the same command again",
    errno.EACCES: "permission is denied: choose a folder that you may write to with --out",
    errno.EPERM: "permission is denied: choose a folder that you may write to with --out",
    errno.EROFS: "the file system is read-only: choose another folder with --out",
    errno.ENOTDIR: "a part of the path is a file: choose another folder with --out",
}


@contextlib.contextmanager
def reported(path: str | os.PathLike, doing: str = "writing") -> Iterator[None]:
    """Turn what the file system refuses into one line that names the path and the remedy."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, f"{error.strerror}: choose another folder with --out")
        raise UserError(f"{doing} {path}: {remedy}") from error
    except ValueError as error:  # tensorstore's refusals come as text
        text = str(error)
        known = {"No space left on device": errno.ENOSPC, "Permission denied": errno.EACCES, "Read-only": errno.EROFS}
        for words, number in known.items():
            if words in text:
                raise UserError(f"{doing} {path}: {_REMEDIES[number]}") from error
        raise


def write(path: str | os.PathLike, data: str | bytes) -> None:
    """Write a file atomically: a reader, or a run that was killed, sees the old content or the new, never half.

    Raises:
        UserError: no space, no permission, read-only; naming the path and the remedy.

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


def unused(path: pathlib.Path) -> pathlib.Path:
    """The path, or the first of path.1, path.2 … that does not exist."""
    candidates = [path, *(path.with_name(f"{path.name}.{i}") for i in range(1, 10_000))]
    return next(p for p in candidates if not p.exists())
