"""Data sets: named columns with lazy row access, a fingerprint, and loading of prepared files."""

import dataclasses
import functools
import hashlib
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mmkd_jax import files
from mmkd_jax.data import text
from mmkd_jax.data.narrowing import narrowed
from mmkd_jax.data.preprocess import saved
from mmkd_jax.data.preprocess.preprocessing import Preprocessing
from mmkd_jax.errors import UserError, choices

Columns = dict[str, np.ndarray]
SHIPPED = pathlib.Path(__file__).parent / "prepared"


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Rows with named columns, read lazily.

    Attributes:
        spec: name -> shape and dtype of one row.
        size: number of rows.
        fingerprint: identity of the rows: name, version, split, content hash.
        fetch: row indices -> columns.
        counts: name of a bool column -> number of True values; after `where`, of those that it leaves no doubt about.
        about: further metadata: classes, scales, sources.
        preprocess: steps from raw inputs, such as paths, to columns, which a student trained on them takes along.
    """

    spec: Mapping[str, jax.ShapeDtypeStruct]
    size: int
    fingerprint: Mapping[str, Any]
    fetch: Callable[[np.ndarray], Columns]
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    preprocess: tuple[Preprocessing, ...] = ()

    @functools.cached_property
    def columns(self) -> Columns:
        """All rows, read once and cached."""
        return self.fetch(np.arange(self.size))

    def take(self, rows: np.ndarray) -> Columns:
        """Return the columns of some rows, from memory if all rows have been read."""
        if "columns" in vars(self):
            return {k: v[rows] for k, v in self.columns.items()}
        return self.fetch(rows)

    def where(self, name: str, value: bool = True) -> "Dataset":
        """Select the rows in which a bool column is True (or False, with `value=False`).

        Example:
            >>> rows = from_columns({"labelled": np.array([True, False, False])}, "three")
            >>> rows.where("labelled").size, rows.where("labelled", False).columns["example_id"].tolist()
            (1, [1, 2])
        """
        if name not in self.counts:
            raise UserError(f"no bool column {name!r} to select rows by; available: {choices(self.counts)}")
        rows = functools.cache(lambda: np.flatnonzero(self.columns[name] == value))
        size = self.counts[name] if value else self.size - self.counts[name]
        constant = {k: size if n else 0 for k, n in self.counts.items() if n in (0, self.size)}
        return dataclasses.replace(
            self,
            size=size,
            fingerprint={
                **self.fingerprint,
                "where": _appended(self.fingerprint, "where", name if value else f"not {name}"),
            },
            fetch=lambda i: self.take(rows()[i]),
            counts={**constant, name: size if value else 0},
        )

    def with_columns(self, **columns: Any) -> "Dataset":
        """Add columns, aligned by row index; steps that were declared for a column of this name no longer are."""
        columns = narrowed(columns, self.fingerprint.get("name", ""))
        if wrong := {k: len(v) for k, v in columns.items() if len(v) != self.size}:
            raise UserError(f"columns {wrong} do not have {self.size} rows")
        return dataclasses.replace(
            self,
            spec={**self.spec, **_row_spec(columns)},
            fingerprint={**self.fingerprint, "columns": _appended(self.fingerprint, "columns", content_hash(columns))},
            fetch=lambda i: self.take(i) | {k: v[i] for k, v in columns.items()},
            counts={**self.counts, **_true(columns)},
            preprocess=tuple(x for x in self.preprocess if not set(x.columns) & set(columns)),
        )


def from_columns(columns: Mapping[str, Any], name: str, classes: Sequence[str] = ()) -> Dataset:
    """Create a data set from arrays in memory; `example_id` defaults to the row index.

    Args:
        columns: column name -> array; all of equal length.
        name: name used in fingerprints and messages.
        classes: names of the classes, in the order of the labels; teachers with names are matched with them.

    Example:
        >>> data = from_columns({"audio": np.zeros((3, 8), np.float32), "label": np.arange(3, dtype=np.int32)}, "mine")
        >>> data.size, sorted(data.spec)
        (3, ['audio', 'example_id', 'label'])
    """
    if not columns:
        raise UserError(f"data set {name!r} has no columns")
    if classes and (not all(isinstance(x, str) for x in classes) or len(set(classes)) < len(classes)):
        raise UserError(f"data set {name!r}: classes={classes!r}; expected the names of the classes, each once")
    columns = narrowed(columns, name)
    sizes = {k: len(v) for k, v in columns.items()}
    if len(set(sizes.values())) != 1:
        raise UserError(f"data set {name!r}: columns have different lengths {sizes}")
    size = next(iter(sizes.values()))
    columns = {"example_id": np.arange(size, dtype=np.int32), **columns}
    return Dataset(
        spec=_row_spec(columns),
        size=size,
        fingerprint={"name": name, "content": content_hash(columns)},
        fetch=lambda i: {k: v[i] for k, v in columns.items()},
        counts=_true(columns),
        about={"classes": list(classes)} if classes else {},
    )


def load(name: str, split: str, directory: str | os.PathLike | None = None) -> Dataset:
    """Load a split of a prepared data set. The record is read at once, the rows lazily.

    Args:
        name: name of a file in `mmkd_jax/data/datasets`.
        split: split name, such as "train".
        directory: folder that contains `NAME/VERSION`; by default the data shipped with the package, then
            `$MMKD_DATA`, then `~/.local/share/mmkd_jax`.

    Raises:
        UserError: the data set is not prepared, the split does not exist, or a file is damaged.

    Example:
        >>> load("av_digits", "train").size
        6000
    """
    folder = find(name, directory)
    record = read_record(folder)
    if split not in record["splits"]:
        raise UserError(f"data set {name!r} has no split {split!r}; available: {choices(record['splits'])}")
    has = record["splits"][split]
    return Dataset(
        spec={k: jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype)) for k, (dtype, shape) in record["rows"].items()},
        size=has["rows"],
        fingerprint={"name": name, "version": record["version"], "split": split, "content": has["content"]},
        fetch=functools.partial(_fetch, functools.cache(lambda: _open(folder, split))),
        counts=has["counts"],
        about=record["about"],
        preprocess=saved.read(folder) if (folder / saved.FILE).exists() else (),
    )


def find(name: str, directory: str | os.PathLike | None = None) -> pathlib.Path:
    """Return the folder `…/NAME/VERSION` of a prepared data set, newest version first."""
    places = [pathlib.Path(directory)] if directory is not None else [SHIPPED]
    if directory is None and not (SHIPPED / name).is_dir():
        places.append(home())
    for place in places:
        if records := list((place / name).glob("*/record.json")):
            return max(records, key=lambda path: _version(path.parent.name)).parent
    raise UserError(
        f"data set {name!r} is not prepared in {' or '.join(map(str, places))}: run `mmkd data prepare {name}` "
        "(`mmkd data list` lists the names)"
    )


def _version(name: str) -> tuple[tuple[int, int | str], ...]:
    """Return a key that orders versions: 1.10.0 is newer than 1.9.0, and numbers are newer than words."""
    return tuple((1, int(x)) if x.isdigit() else (0, x) for x in name.split("."))


def home() -> pathlib.Path:
    """Default output folder of `mmkd data prepare`."""
    try:
        return pathlib.Path(os.environ.get("MMKD_DATA") or pathlib.Path.home() / ".local" / "share" / "mmkd_jax")
    except RuntimeError:  # a user without a name and without HOME
        raise UserError("the user has no home folder: set MMKD_DATA to the folder of the data sets") from None


def read_record(folder: pathlib.Path) -> dict[str, Any]:
    """Read `record.json` of a prepared data set: version, rows, splits with content hashes, files with SHA-256."""
    try:
        return files.read_json(folder / "record.json")
    except (OSError, files.Damaged) as error:
        reason = error.reason if isinstance(error, files.Damaged) else error
        raise files.Damaged(f"{folder / 'record.json'} is damaged ({reason}): {_remedy(folder)}") from None


def content_hash(columns: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of the decoded rows; equal for two equivalent preparations."""
    digest = hashlib.sha256()
    for name in sorted(columns):
        x = np.ascontiguousarray(columns[name])
        digest.update(f"{name} {x.dtype.str} {x.shape}\n".encode())
        digest.update(x.tobytes())
    return digest.hexdigest()


def decode(rows: list[Mapping[str, Any]], lengths: Mapping[str, int | str]) -> Columns:
    """Convert TFDS rows to flat columns; texts become character ids (`NAME.ids`, `NAME.mask`) or bytes."""
    columns: Columns = {}
    for name in rows[0]:
        values = [r[name] for r in rows]
        if isinstance(values[0], (bytes, str)):
            length = lengths[name]
            if isinstance(length, int):
                columns[f"{name}.ids"], columns[f"{name}.mask"] = text.characters(values, length)
            else:
                columns[name] = text.stored(values, length)
            continue
        columns |= narrowed({name: np.stack([np.asarray(v) for v in values])}, "read")
    return columns


def _open(folder, split):
    """Random access to the rows of a split, after verifying its files against the record."""
    import tensorflow_datasets as tfds

    record = read_record(folder)
    for file, expected in record["files"].items():
        path = folder / file
        if not path.is_file():
            raise UserError(f"data file {path} is missing: {_remedy(folder)}")
        actual = hashlib.sha256(path.read_bytes()).hexdigest()
        if actual != expected:
            raise UserError(
                f"data file {path} is damaged (SHA-256 {actual[:12]}…, recorded {expected[:12]}…): {_remedy(folder)}"
            )
    source = tfds.builder_from_directory(folder).as_data_source(split=split)
    return source, record["lengths"]


def _fetch(opened, rows):
    source, lengths = opened()
    return decode(source.__getitems__([int(i) for i in rows]), lengths)


def _appended(fingerprint: Mapping[str, Any], key: str, value: str) -> str:
    """Return an entry of a fingerprint after one more operation of its kind."""
    return f"{fingerprint[key]}, {value}" if key in fingerprint else value


def _row_spec(columns):
    return {k: jax.ShapeDtypeStruct(v.shape[1:], v.dtype) for k, v in columns.items()}


def _true(columns):
    return {k: int(v.sum()) for k, v in columns.items() if v.dtype == np.bool_ and v.ndim == 1}


def _remedy(folder):
    name = folder.parent.name
    again = "reinstall mmkd_jax, or" if folder.is_relative_to(SHIPPED) else f"remove {folder}, and"
    return f"{again} build it again with `mmkd data prepare {name}`"
