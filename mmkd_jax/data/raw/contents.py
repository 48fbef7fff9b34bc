"""Hashes of the contents of files and of folders of frames, remembered for as long as the files do not change."""

import contextlib
import hashlib
import os
import pathlib
import stat
import time
from collections.abc import Mapping

from mmkd_jax import files, foreign_files
from mmkd_jax.data.raw.in_order import in_order
from mmkd_jax.errors import UserError, shown

_MOST_FRAMES = 100_000
_RECENT = 2 * 10**9
"""Age in ns below which a file is not remembered: the clocks of file systems are coarse."""

State = list[int | str]
"""Size, times and inode of a file, and its hash."""


def hashes(paths: Mapping[pathlib.Path, str], known: pathlib.Path, threads: int) -> dict[pathlib.Path, str]:
    """Return the SHA-256 of each file; that of a folder is of the names and contents of the files in it.

    A file is read again if its size, inode or time of change differ from those of an earlier call.

    Args:
        paths: path -> name of its row in messages.
        known: file with the hashes of the earlier call, which is written again if they changed.
        threads: number of threads that read.

    Raises:
        UserError: a file is missing or cannot be read; the message names the row and the path.
    """
    try:
        before = files.read_json(known).get("files", {})
    except (FileNotFoundError, files.Damaged):
        before = {}
    after: dict[str, State] = {}

    def one(path):
        try:
            return _content(path, before, after)
        except UserError as error:
            raise error.within(paths[path]) from None

    found = dict(zip(paths, in_order(one, paths, threads), strict=True))
    if after != before:
        with contextlib.suppress(UserError):  # a folder that is read-only may have all copies
            files.write_json(known, {"files": {**before, **after}})
    return found


def _content(path, before, after):
    if not path.is_dir():
        return _of_file(path, before, after)
    with os.scandir(path) as entries:
        names = sorted(e.name for e in entries if e.is_file() and not e.name.startswith("."))
    if not 0 < len(names) <= _MOST_FRAMES:
        expected = f"1 … {_MOST_FRAMES:,}"
        raise UserError(f"the folder {shown(str(path), 300)} has {len(names):,} files; expected {expected}")
    each = "\n".join(f"{_of_file(path / name, before, after)} {name}" for name in names)
    return hashlib.sha256(f"folder\n{each}".encode(errors="surrogateescape")).hexdigest()


def _of_file(path, before, after):
    foreign_files.size_of(path)  # refuses what is no regular file
    key, state = str(path.absolute()), _state(path)
    old = before.get(key, ())
    digest = old[-1] if list(old[:-1]) == state else None
    if digest is None:
        try:
            digest = files.sha256(path)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from None
        if state != _state(path) or time.time_ns() - max(state[1:3]) < _RECENT:
            return digest
    after[key] = [*state, digest]
    return digest


def _state(path):
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, stat.S_IFMT(status.st_mode)]
