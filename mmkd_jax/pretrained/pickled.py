"""Restricted unpickler for PyTorch weight files (.bin, .pt, .pth): tensors and containers only, without PyTorch."""

import collections
import io
import os
import pickle
import zipfile
from typing import Any

import ml_dtypes
import numpy as np

from mmkd_jax.errors import UserError

DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_DAMAGE = (pickle.UnpicklingError, zipfile.BadZipFile, EOFError)
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def read(path: str | os.PathLike) -> Any:
    """Read a PyTorch file, in the zip layout or the legacy one, with NumPy arrays for tensors.

    Args:
        path: path of the file.

    Returns:
        Dicts, lists, tuples, numbers, strings and NumPy arrays.

    Raises:
        UserError: the file requests anything else, is damaged, or is not a PyTorch file.
    """
    storages: dict[str, _Storage] = {}
    try:
        with open(path, "rb") as file:
            tree = (_zipped if zipfile.is_zipfile(path) else _legacy)(file, storages)
        return _finished(tree)
    except _Refused as error:
        raise UserError(f"{path}: {error}") from None
    except (*_DAMAGE, KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise UserError(f"{path} is damaged or not a PyTorch weights file ({error}): fetch it again") from error


class _Refused(Exception):
    pass


class _Storage:
    def __init__(self, dtype, count):
        self.dtype, self.count, self.data = np.dtype(dtype), count, np.empty(0)


class _Tensor:
    def __init__(self, storage, offset, size, stride, *_):
        self.storage, self.offset, self.size, self.stride = storage, offset, tuple(size), tuple(stride)


ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
} | {("torch", name): dtype for name, dtype in DTYPES.items()}


class _Reader(pickle.Unpickler):
    def __init__(self, file, storages):
        super().__init__(file, encoding="utf-8")
        self.storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise _Refused(f"it requests {module}.{name}: a weights file may contain tensors and containers only")
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:  # ("storage", dtype, key, location, count[, view])
        if pid[0] != "storage" or (len(pid) > 5 and pid[5] is not None):
            raise _Refused(f"it refers to {pid!r}, which is not a storage")
        return self.storages.setdefault(pid[2], _Storage(pid[1], pid[4]))


def _zipped(file, storages):
    archive = zipfile.ZipFile(file)
    root = next(n for n in [*archive.namelist(), "/data.pkl"] if n.endswith("/data.pkl")).removesuffix("data.pkl")
    if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
        raise _Refused("its numbers are big-endian, which is not supported")
    tree = _Reader(io.BytesIO(archive.read(f"{root}data.pkl")), storages).load()
    for key, storage in storages.items():
        storage.data = np.frombuffer(archive.read(f"{root}data/{key}"), storage.dtype, storage.count)
    return tree


def _legacy(file, storages):
    """Legacy layout: pickled magic, protocol, system, tree and storage keys; then count and bytes of each storage."""
    magic, protocol, system = (_Reader(file, {}).load() for _ in range(3))
    if magic != MAGIC or protocol != PROTOCOL or not system["little_endian"]:
        raise ValueError("unknown header")
    tree = _Reader(file, storages).load()
    for key in _Reader(file, {}).load():
        storage = storages[key]
        if np.frombuffer(file.read(8), "<i8")[0] != storage.count:
            raise ValueError(f"storage {key} has another size")
        storage.data = np.frombuffer(file.read(storage.count * storage.dtype.itemsize), storage.dtype, storage.count)
    return tree


def _finished(x):
    if isinstance(x, _Tensor):
        data, reach = x.storage.data, sum((n - 1) * step for n, step in zip(x.size, x.stride, strict=True))
        last = x.offset + reach + 1 if all(x.size) else 0
        if x.offset < 0 or min((*x.size, *x.stride), default=0) < 0 or last > data.size:  # unchecked by as_strided
            raise ValueError("a tensor lies outside its storage")
        strides = [step * data.dtype.itemsize for step in x.stride]
        return np.lib.stride_tricks.as_strided(data[x.offset :], x.size, strides).copy()
    if isinstance(x, dict):
        return {k: _finished(v) for k, v in x.items()}
    return type(x)(map(_finished, x)) if isinstance(x, list | tuple) else x
