"""Data sets of raw values that go through their steps once, into prepared copies that are then streamed."""

import hashlib
import importlib.metadata
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mmkd_jax import files
from mmkd_jax.data import dataset
from mmkd_jax.data.dataset import Columns, Dataset
from mmkd_jax.data.preprocess import Preprocessing, saved
from mmkd_jax.data.raw import absence
from mmkd_jax.data.raw.chains import RESERVED
from mmkd_jax.data.raw.in_order import in_order
from mmkd_jax.data.raw.prepared import prepared
from mmkd_jax.errors import UserError

_WINDOW = 2**22
"""Bytes of rows that a thread prepares at a time."""
_DECODERS = ("numpy", "scipy", "pillow", "tokenizers", "av")
_CODE = pathlib.Path(dataset.__file__).parent
"""Sources that decode: a copy that an earlier version prepared is not used."""


class Raw(NamedTuple):
    """Raw values of all rows, and the steps that they go through.

    Attributes:
        chain: the steps.
        values: value of each row; None where it is missing.
        identity: JSON value of each row that changes with its content, such as the hash of a file.
    """

    chain: Preprocessing
    values: Sequence[Any]
    identity: Sequence[Any]


class Place(NamedTuple):
    """Where and how copies are prepared.

    Attributes:
        home: folder of all data sets.
        name: name of the data set.
        threads: number of threads.
        log: called with messages for the user.
    """

    home: pathlib.Path
    name: str
    threads: int
    log: files.Log

    @property
    def folder(self) -> pathlib.Path:
        """Folder of the data set."""
        return self.home / _readable(self.name)


def datasets(
    raw: Sequence[Raw], light: Columns, assigned: Sequence[str], about: Mapping[str, Any], place: Place, train: str
) -> dict[str, Dataset]:
    """Return the data set of each split, with the columns of all chains.

    Args:
        raw: the raw values and their chains.
        light: further columns, which are kept in memory.
        assigned: split of each row.
        about: metadata of all splits.
        place: where the copies are.
        train: name of the training split.

    Raises:
        UserError: a value cannot be read, two columns have one name, or all training rows lack a value.
    """
    size = len(assigned)
    light = {"example_id": np.arange(size, dtype=np.int32), **light}
    specs = [x.chain.row_spec() for x in raw]
    for x, spec in zip(raw, specs, strict=True):
        for k in spec:
            if k in RESERVED or sum(k in other for other in specs) > 1:
                raise UserError(
                    f"input {x.chain.input!r} gives the column {k!r}, which another one is named: rename the input, or "
                    "give its tokenizer another modality"
                )
    there = {x.chain.input: np.array([value is not None for value in x.values]) for x in raw}
    training = np.array(assigned) == train
    absence.check(there, training if training.any() else np.ones(size, bool))
    if said := absence.empty_rows(there):
        place.log(f"{place.name}: {said}")
    light |= {f"present.{k}": x for k, x in _present(there, raw, specs).items() if not x.all()}
    arrays: Columns = {}
    hashes = {}
    for x, spec in zip(raw, specs, strict=True):
        how = {"steps": steps_as_json(x.chain), "versions": _versions(), "rows": files.digest(list(x.identity))}
        folder = place.folder / f"{_readable(x.chain.input)}-{files.digest(how)[:16]}"
        found = prepared(folder, how, spec, size, _windows(x, spec, place.threads), place.log)
        arrays |= found.arrays
        hashes |= found.hashes
    spec = {k: jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for k, x in {**light, **arrays}.items()}

    def of_split(name):
        rows = np.flatnonzero(np.array(assigned) == name)
        mine = {k: x[rows] for k, x in light.items()}
        content = files.digest([hashes, dataset.content_hash(mine)])
        return Dataset(
            spec=spec,
            size=len(rows),
            fingerprint={"name": place.name, "split": name, "content": content},
            fetch=lambda i: {k: x[i] for k, x in mine.items()} | {k: np.array(x[rows[i]]) for k, x in arrays.items()},
            counts={k: int(x.sum()) for k, x in mine.items() if x.dtype == np.bool_},
            about=about,
            preprocess=tuple(x.chain for x in raw),
        )

    return {name: of_split(name) for name in dict.fromkeys(assigned)}


def _present(there: Columns, raw: Sequence[Raw], specs: Sequence[Mapping[str, Any]]) -> Columns:
    """Return the rows that have each modality; all chains of a modality must lack the same rows."""
    found: Columns = {}
    for x, spec in zip(raw, specs, strict=True):
        present = there[x.chain.input]
        for modality in {k.partition(".")[0] for k in spec}:
            if (found.setdefault(modality, present) != present).any():
                raise UserError(f"two inputs give columns of {modality!r}, and lack it in different rows: rename one")
    return found


def _windows(
    x: Raw, spec: Mapping[str, jax.ShapeDtypeStruct], threads: int
) -> Callable[[], Iterator[Mapping[str, np.ndarray]]]:
    """Return a function that yields all rows, a few at a time, from several threads."""
    width = sum(s.dtype.itemsize * int(np.prod(s.shape)) for s in spec.values())
    n = max(1, min(64, _WINDOW // max(width, 1)))

    def window(first):
        rows = range(first, min(first + n, len(x.values)))
        there = [i for i in rows if x.values[i] is not None]
        found = x.chain([x.values[i] for i in there], there) if there else {}
        whole = {k: np.zeros((len(rows), *s.shape), s.dtype) for k, s in spec.items()}
        for k, column in found.items():
            whole[k][np.array(there) - first] = column
        return whole

    return lambda: in_order(window, range(0, len(x.values), n), threads)


def steps_as_json(chain: Preprocessing) -> Any:
    """Return the chain as JSON, with the hashes of its files."""
    with tempfile.TemporaryDirectory() as folder:
        saved.write(pathlib.Path(folder), [chain])
        return files.read_json(pathlib.Path(folder) / saved.FILE)


def _versions() -> dict[str, str]:
    """Return what decodes: versions of libraries, and a hash of this library's sources that do."""
    code = hashlib.sha256()
    for path in sorted([*_CODE.glob("*.py"), *_CODE.glob("preprocess/*.py")]):
        code.update(path.read_bytes())
    found = {"mmkd_jax": code.hexdigest()}
    for name in _DECODERS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _readable(name: str) -> str:
    """Return a name as part of a path."""
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in name).lstrip(".")[:60] or "_"
