"""Data sets from a table and the files that it names: decoded once into a prepared copy, and streamed from it."""

import functools
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmkd_jax import files
from mmkd_jax.data import dataset
from mmkd_jax.data.dataset import Dataset
from mmkd_jax.data.raw import assignment, cells, contents, preparation, table_file
from mmkd_jax.data.raw.chains import Inputs, chains, columns_of, fitted, kind
from mmkd_jax.errors import UserError, choices, shown


def from_files(
    table: str | os.PathLike,
    inputs: Inputs,
    *,
    label: str | None = None,
    classes: Sequence[str] | None = None,
    regression: bool | None = None,
    split: str | Mapping[str, float] | None = None,
    group: str | None = None,
    train: str = "train",
    seed: int = 0,
    rename: Mapping[str, str] | None = None,
    allow_copies: bool = False,
    name: str = "",
    cache: str | os.PathLike | None = None,
    threads: int | None = None,
    log: files.Log = print,
) -> dict[str, Dataset]:
    r"""Create data sets from a table whose columns have texts, numbers, and paths of images, recordings and videos.

    Empty cells are missing modalities: `present.MODALITY` is False there, and the columns are zeros; it exists if any
    row of the table lacks the modality. An empty label is an unlabeled training row: `labelled` is False there, and
    the label is 0. `example_id` is the number of the row in the table, from 0.

    Each input is decoded once. The copy is in `FOLDER/files/NAME`, under a hash of the cells, the contents of the
    files, the steps and the versions of the libraries that decode; it is compared with its own hashes on each call and
    mapped into memory, so that it may be larger than memory.

    Args:
        table: .csv or .tsv with the names of the columns in the first line, .jsonl or .ndjson, or .parquet. Relative
            paths in it start from its folder.
        inputs: column -> the steps that read it: a step, a tuple of steps, or a list of several such tuples. Columns
            that start with `Tokenize`, `Characters` or `TrainTokenizer` are texts, with `ReadArray` numbers, all others
            paths. `TrainTokenizer` and `Standardize` are fitted to the training rows.
        label: column of the labels: words or the integers 0 … n − 1 for classes, other numbers for values.
        classes: names of the classes, in the order of the labels; by default those of the training rows, sorted.
        regression: True for labels that are values, False for classes; None decides by the labels.
        split: column with the split of each row; or split -> share of the rows, for splits that are equal within each
            class and depend on seed and content only; None for one split, `train`.
        group: column whose rows of one value must be in one split, such as the owner.
        train: name of the training split.
        seed: seed of splits by shares.
        rename: name of an input -> column of the table, for columns that are named otherwise.
        allow_copies: allow files of the same content in several splits; by default, a column `split` with such is
            refused, and shares keep them together.
        name: name of the data set; by default that of the table.
        cache: folder of the prepared copies; by default `$MMKD_DATA`, then `~/.local/share/mmkd_jax`.
        threads: number of threads that decode; by default one per core, at most 16.
        log: called with progress.

    Returns:
        Data set of each split, with their steps in `preprocess` and the names of the classes in `about["classes"]`.

    Raises:
        UserError: anything in the table or a file that is not as described; the message has row and path.

    Example:
        >>> import tempfile
        >>> from mmkd_jax.data.preprocess import ReadArray, TrainTokenizer
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> rows = ["said,age,species,fold", "wow wow,3,dog,train", "miaow miaow,2,cat,train", ",4,dog,test"]
        >>> _ = (folder / "pets.csv").write_text("\n".join(rows))
        >>> inputs = {"said": TrainTokenizer(size=9, length=3), "age": ReadArray()}
        >>> pets = from_files(folder / "pets.csv", inputs, label="species", split="fold", cache=folder)
        >>> pets["train"].columns["said.ids"].tolist(), pets["train"].about["classes"]
        ([[3, 3, 0], [2, 2, 0]], ['cat', 'dog'])
        >>> {k: x.tolist() for k, x in pets["test"].columns.items() if k in ("age", "label", "present.said")}
        {'label': [1], 'present.said': [False], 'age': [4.0]}
    """
    path, steps = pathlib.Path(table), chains(inputs)
    columns = columns_of(inputs, rename, label)
    if isinstance(split, Mapping):
        assignment.check_shares(split)
    named = [x for x in (label, group, split) if isinstance(x, str)]
    read = table_file.read(path, list(dict.fromkeys([*columns.values(), *named])))
    place = preparation.Place(
        (pathlib.Path(cache) if cache is not None else dataset.home()) / "files",
        name or path.stem,
        threads or min(os.cpu_count() or 1, 16),
        log,
    )
    kinds = {k: kind(k, [chain for n, chain in steps if n == k]) for k in columns}
    values = {k: raw_values(read, columns[k], kinds[k]) for k in columns}
    hashes = _hashes(read, {k: values[k] for k in columns if kinds[k] == "path"}, place)
    contained = {k: hashes.get(k) or read.columns[columns[k]] for k in columns}
    rows = [json.dumps(row) for row in zip(*contained.values(), strict=True)]
    copies = [[] if allow_copies else _copied(kinds, contained, i, row) for i, row in enumerate(rows)]
    groups = cells.names(read, group, "group") if group else None
    label_of = functools.partial(cells.labels, read, label, classes, regression, train=train) if label else None
    if isinstance(split, Mapping):
        labels = label_of(splits=None) if label_of else None
        lots = assignment.joined(groups, [[key for _, key in keys] for keys in copies])
        strata = labels.values if labels and labels.classes else np.zeros(read.size, np.int32)
        known = labels.known if labels else np.ones(read.size, bool)
        assigned = assignment.by_shares(lots, rows, strata, known, split, seed, train)
    else:
        assigned = cells.names(read, split, "split") if split else [train] * read.size
        if split:
            assignment.check_names(read, split, assigned, train)
        if groups is not None:
            assignment.check_groups(read, group or "", groups, assigned)
        assignment.check_copies(read, copies, assigned)
    labels = label_of(splits=assigned) if label_of else None

    def training(k: str) -> tuple[list[Any], list[int]]:
        if train not in assigned:
            raise UserError(f"no split {train!r} to fit steps to; there is {choices(set(assigned))}: pass train=…")
        chosen = [i for i in range(read.size) if assigned[i] == train and values[k][i] is not None]
        return [values[k][i] for i in chosen], chosen

    raw = [
        preparation.Raw(fitted(k, chain, functools.partial(training, k)), values[k], contained[k]) for k, chain in steps
    ]
    light: dict[str, np.ndarray] = {}
    if labels is not None:
        light = {"label": labels.values} | ({} if labels.known.all() else {"labelled": labels.known})
    about = {"classes": list(labels.classes)} if labels and labels.classes else {}
    return preparation.datasets(raw, light, assigned, about, place, train)


def _copied(
    kinds: Mapping[str, str], contained: Mapping[str, Sequence[Any]], i: int, row: str
) -> list[tuple[str, str]]:
    """Return (what, content) of a row, which another row may share: each of its files, or all inputs of a text."""
    found = [(f"the file of {k!r}", x[i]) for k, x in contained.items() if kinds[k] == "path" and x[i]]
    texts = any(kinds[k] == "text" and x[i] for k, x in contained.items())
    return found or ([("the row", row)] if texts else [])


def raw_values(table: table_file.Table, column: str, which: str) -> list[Any]:
    """Return the values that steps read: texts, numbers, or paths; None for empty cells."""
    if which == "number":
        return cells.numeric(table, column)
    found = []
    for i, x in enumerate(table.columns[column]):
        each = x if isinstance(x, list) and which == "path" else [x]
        if x is not None and not all(isinstance(y, str) for y in each):
            expected = "a text" if which == "text" else "a path"
            raise UserError(f"{table.row(i)}: {column!r} is {shown(repr(x), 80)}; expected {expected}")
        if which == "path" and x is not None:
            paths = [table.path.parent / y.strip() for y in each]
            found.append(paths if isinstance(x, list) else paths[0])
        else:
            found.append(x)
    return found


def _hashes(
    table: table_file.Table, values: Mapping[str, Sequence[Any]], place: preparation.Place
) -> dict[str, list[str | None]]:
    """Return the hash of the files of each row; None for empty cells."""
    each = {k: [x if isinstance(x, list) else [x] if x else [] for x in column] for k, column in values.items()}
    wanted: dict[pathlib.Path, str] = {}
    for k, column in each.items():
        for i, paths in enumerate(column):
            for path in paths:
                wanted.setdefault(path, f"{table.row(i)}: {k!r}")
    found = contents.hashes(wanted, place.folder / "contents.json", place.threads)
    return {k: ["+".join(found[path] for path in paths) or None for paths in column] for k, column in each.items()}
