"""Columns that were prepared once: NumPy files that are mapped into memory, with their hashes in a record."""

import contextlib
import hashlib
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from mmkd_jax import files

_FORMAT = 1
_PACE = 10.0
"""Seconds between two lines of progress."""

Windows = Iterator[Mapping[str, np.ndarray]]


class Prepared(NamedTuple):
    """Columns on disk.

    Attributes:
        arrays: name -> all rows, mapped into memory: values are read from disk on access.
        hashes: name -> SHA-256 of its file.
    """

    arrays: Mapping[str, np.ndarray]
    hashes: Mapping[str, str]


def prepared(
    folder: pathlib.Path,
    about: Mapping[str, Any],
    spec: Mapping[str, jax.ShapeDtypeStruct],
    size: int,
    windows: Callable[[], Windows],
    log: files.Log,
) -> Prepared:
    """Return columns from a folder, which are computed and written first if they are missing or damaged.

    The folder appears with its last byte, so that another process sees all of it or none of it; one of several
    processes computes it, and the others wait. The files are compared with their hashes on each call.

    Args:
        folder: the folder; its name must have the hash of `about`.
        about: raw values, steps and versions, for the record.
        spec: shapes and dtypes of one row.
        size: number of rows.
        windows: returns consecutive rows, a few at a time, from the first row.
        log: called with messages for the user.

    Raises:
        UserError: no space, no permission, or an error of `windows`.
    """
    try:
        found = _read(folder, about, spec, size)
    except files.Damaged:
        found = None  # set aside under the lock
    if found is not None:
        return found
    waiting: list[str] = []

    def wait():
        if not waiting:
            waiting.append(f"waiting for another process, which prepares {folder}")
            log(waiting[0])
        time.sleep(0.2)

    lock, option = folder.with_name(f"{folder.name}.lock"), "cache=…"
    with files.reported(folder, option=option), files.locked(lock, wait, option):
        try:
            found = _read(folder, about, spec, size)
        except files.Damaged as error:
            aside = files.set_aside(folder)
            log(f"{folder} is damaged ({error.reason}) and kept as {aside.name}: preparing it again")
            found = None
        if found is None:
            _write(folder, about, spec, size, windows(), log)
            found = _read(folder, about, spec, size)
    assert found is not None
    return found


def _write(folder, about, spec, size, windows, log):
    for left in folder.parent.glob(f".{folder.name}.*"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    target = pathlib.Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        digests = {k: hashlib.sha256() for k in spec}
        with contextlib.ExitStack() as stack:
            out = {k: stack.enter_context(open(target / _file(k), "wb")) for k in spec}

            def append(name, data):
                out[name].write(data)
                digests[name].update(data)

            for k, s in spec.items():
                header = {"descr": s.dtype.str, "fortran_order": False, "shape": (size, *s.shape)}
                np.lib.format.write_array_header_1_0(_Both(append, k), header)
            done, said = 0, time.monotonic()
            for window in windows:
                for k, s in spec.items():
                    assert window[k].dtype == s.dtype and window[k].shape[1:] == s.shape, (k, window[k].shape, s)
                    append(k, np.ascontiguousarray(window[k]).tobytes())
                done += len(next(iter(window.values())))
                if time.monotonic() - said > _PACE:
                    said = time.monotonic()
                    log(f"preparing {folder.name}: {done:,} of {size:,} rows")
            assert done == size, (done, size)
            for file in out.values():
                file.flush()
                os.fsync(file.fileno())
        record = {k: digest.hexdigest() for k, digest in digests.items()}
        files.write_json(target / "record.json", {"format": _FORMAT, "about": files.as_json(about), "files": record})
        os.chmod(target, 0o755)
        os.rename(target, folder)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


class _Both(NamedTuple):
    """File for NumPy's header, which goes through `append`."""

    append: Callable[[str, bytes], None]
    name: str

    def write(self, data: bytes) -> None:
        self.append(self.name, data)


def _read(folder, about, spec, size):
    """Return the columns, or None if there is no folder."""
    if not folder.exists():
        return None
    try:
        record = files.read_json(folder / "record.json")
    except FileNotFoundError:
        raise _damaged(folder, "record.json is missing") from None
    if (record.get("format"), record.get("about")) != (_FORMAT, files.as_json(about)):
        raise _damaged(folder, "record.json has other contents")
    arrays, hashes = {}, record["files"]
    for k, s in spec.items():
        path = folder / _file(k)
        try:
            same = files.sha256(path) == hashes.get(k)
        except OSError as error:
            raise _damaged(folder, f"{path.name}: {error.strerror}") from None
        if not same:
            raise _damaged(folder, f"{path.name} has another SHA-256 than recorded")
        arrays[k] = np.lib.format.open_memmap(path, mode="r")
        assert arrays[k].dtype == s.dtype and arrays[k].shape == (size, *s.shape), k
    return Prepared(arrays, hashes)


def _damaged(folder, reason):
    error = files.Damaged(f"{folder} is damaged ({reason}): delete it")
    error.reason = reason
    return error


def _file(column):
    """Return the name of a column's file; names of columns may have any character."""
    readable = "".join(c if c.isalnum() or c in "._-" else "_" for c in column)[:60]
    return f"{readable}-{hashlib.sha256(column.encode()).hexdigest()[:8]}.npy"
