"""Meaning of PyTorch weight files (.bin, .pt, .pth) without PyTorch: tensors and containers only."""

import io
import math
import os
import types
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from mmkd_jax import foreign_files
from mmkd_jax.errors import UserError, shown
from mmkd_jax.looks_like import not_downloaded
from mmkd_jax.pretrained import opcodes
from mmkd_jax.pretrained.opcodes import Global, Meaning, Refused

DTYPES: Mapping[str, Any] = types.MappingProxyType(
    {
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
)
ALLOWED = frozenset({("torch", name) for name in DTYPES}) | {
    ("collections", "OrderedDict"),
    ("torch", "Size"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
}
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
MOST_AXES = 64


def read(path: str | os.PathLike) -> Any:
    """Read a PyTorch file, in the zip layout or the legacy one, with NumPy arrays for tensors.

    Args:
        path: path of the file.

    Returns:
        Dicts, lists, tuples, numbers, strings and NumPy arrays, which are read-only views of the file's storages.

    Raises:
        UserError: the file requests anything else, is damaged, or is not a PyTorch file.
    """
    size = foreign_files.size_of(path)
    start = b""
    try:
        with open(path, "rb") as file:
            start = file.read(64)
            is_zip = zipfile.is_zipfile(file)
            if start.startswith(b"PK") and not is_zip:
                raise ValueError("its end is missing")
            return _zipped(file, size) if is_zip else _legacy(file, size)
    except Refused as error:
        what = not_downloaded(start)
        raise UserError(f"{path} {what}" if what else f"{path}: {error}") from None
    except Exception as error:  # zipfile, struct and NumPy raise many kinds for damaged bytes
        reason = shown(str(error) or type(error).__name__)
        what = not_downloaded(start) or f"is damaged or not a PyTorch weights file ({reason}): fetch it again"
        raise UserError(f"{path} {what}") from error


class _Storage:
    """Bytes of a storage, with the dtype and the number of its elements."""

    __slots__ = ("count", "data", "dtype")

    def __init__(self, dtype, count, data):
        self.dtype, self.count, self.data = dtype, count, data


class _Storages:
    """Storages of one file, by key; `fetch` returns the bytes of a key's storage."""

    def __init__(self, fetch: Callable[[str, int], Any]):
        self.fetch, self.found = fetch, {}
        self.meaning = Meaning(ALLOWED, _call, self.refer)

    def refer(self, key):  # ("storage", dtype, key, location, count[, view])
        if type(key) is not tuple or len(key) < 5 or key[0] != "storage" or any(x is not None for x in key[5:]):
            raise Refused(f"it refers to {shown(repr(key)) if _flat(key) else 'an object'}, which is not a storage")
        _, kind, name, _, count = key[:5]
        if not isinstance(kind, Global) or kind.name not in DTYPES or type(name) is not str or not _whole(count):
            raise ValueError("a storage has no dtype, name or size")
        dtype = np.dtype(DTYPES[kind.name])
        if name not in self.found:
            self.found[name] = _Storage(dtype, count, self.fetch(name, count * dtype.itemsize))
        storage = self.found[name]
        if (storage.dtype, storage.count) != (dtype, count):
            raise ValueError(f"storage {name} has two sizes or dtypes")
        return storage


def _flat(key):
    return isinstance(key, str | int) or (isinstance(key, tuple) and all(isinstance(x, str | int) for x in key))


def _whole(x):
    return type(x) is int and 0 <= x < 2**63


def _call(name, arguments):
    match name.name, arguments:
        case "OrderedDict", ():
            return {}
        case "OrderedDict", (list(pairs),):  # Python 2
            ordered: dict[Any, Any] = {}
            for pair in pairs:
                if type(pair) not in (list, tuple) or len(pair) != 2 or type(pair[0]) is not str:
                    raise ValueError("an OrderedDict has an entry without a name")
                ordered[pair[0]] = pair[1]
            return ordered
        case "Size", (tuple() | list(),):
            return tuple(arguments[0])
        case "_rebuild_parameter", (np.ndarray(), *_):
            return arguments[0]
        case "_rebuild_tensor_v2", (_Storage(), offset, tuple(), tuple(), *more):
            if len(more) > 2 and more[2]:
                raise Refused("a tensor has metadata, such as a negated or conjugated view: save a copy, x.clone()")
            return _tensor(arguments[0], offset, *arguments[2:4])
    raise ValueError(f"{name.name} has other arguments than PyTorch writes")


def _tensor(storage, offset, size, stride):
    if not all(_whole(x) for x in (offset, *size, *stride)):
        raise ValueError("a tensor's offset, sizes and strides are not whole numbers")
    if len(size) != len(stride) or len(size) > MOST_AXES:
        raise ValueError(f"a tensor has {len(size)} sizes and {len(stride)} strides")
    elements = math.prod(size)
    if elements:
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1
        if last > storage.count:
            raise ValueError("a tensor lies outside its storage")
        if elements > storage.count:
            raise ValueError("a tensor has more elements than its storage")
        width = storage.dtype.itemsize
        x = np.ndarray(size, storage.dtype, storage.data, offset * width, [step * width for step in stride])
    else:
        x = np.empty(size, storage.dtype)
    x.flags.writeable = False
    return x


def _zipped(file, size):
    archive = zipfile.ZipFile(file)
    members = archive.infolist()
    if any(m.compress_type != zipfile.ZIP_STORED or m.compress_size != m.file_size for m in members):
        raise Refused("its content is compressed, which PyTorch does not do")
    if sum(m.file_size for m in members) > size:
        raise ValueError("its members are larger than the file")
    names = archive.NameToInfo
    root = next(n for n in [*names, "/data.pkl"] if n.endswith("/data.pkl")).removesuffix("data.pkl")
    if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
        raise Refused("its numbers are big-endian, which is not supported")

    def fetch(name, length):
        data = archive.read(f"{root}data/{name}")
        if len(data) < length:
            raise ValueError(f"storage {name} has {len(data)} bytes, expected {length}")
        return data

    tree = archive.read(f"{root}data.pkl")
    return opcodes.run(_Source(io.BytesIO(tree), len(tree)).read, _Storages(fetch).meaning)


def _legacy(file, size):
    """Legacy layout: pickled magic, protocol, system, tree and storage keys; then count and bytes of each storage."""
    file.seek(0)
    source = _Source(file, size)

    def fetch(name, length):  # the bytes follow the tree; tensors are views of them
        del name
        return source.claim(length)

    storages = _Storages(fetch)
    plain = Meaning((), _call, _no_storage)
    magic, protocol, system = (opcodes.run(source.read, plain) for _ in range(3))
    if magic != MAGIC or protocol != PROTOCOL or type(system) is not dict or system["little_endian"] is not True:
        raise ValueError("unknown header")
    tree = opcodes.run(source.read, storages.meaning)
    keys = opcodes.run(source.read, plain)
    if type(keys) is not list or any(type(k) is not str for k in keys) or sorted(keys) != sorted(storages.found):
        raise ValueError("it lists other storages than its tensors have")
    for key in keys:
        storage = storages.found[key]
        if int.from_bytes(source.read(8), "little") != storage.count:
            raise ValueError(f"storage {key} has another size")
        source.fill(storage.data)
        storage.data.flags.writeable = False
    return tree


def _no_storage(key):
    raise ValueError("it refers to a storage before its tensors")


class _Source:
    """A file of known size: reads and storages that exceed it are refused before memory is allocated for them."""

    def __init__(self, file, size):
        self.file, self.left, self.claimed = file, size, 0

    def read(self, count):
        if count > self.left:
            raise EOFError("it ends early")
        data = self.file.read(count)
        if len(data) < count:
            raise EOFError("it ends early")
        self.left -= count
        return data

    def claim(self, length):
        self.claimed += length
        if self.claimed > self.left:
            raise EOFError("its storages are larger than the file")
        return np.empty(length, np.uint8)

    def fill(self, data):
        if len(data) > self.left or self.file.readinto(data) < len(data):
            raise EOFError("it ends early")
        self.left -= len(data)
