"""Cells of a table as labels, numbers and names: each is read as written, or refused by its row."""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mmkd_jax.data.raw.table_file import Table
from mmkd_jax.errors import UserError, choices, shown

_MISSING = ("nan", "<na>", "#n/a", "n/a", "null")
"""Texts that other programs write for a missing value; "none" and "NA" may be classes."""


class Labels(NamedTuple):
    """Labels of the rows of a table.

    Attributes:
        values: int32 class indices, or float32 values; 0 where `known` is False.
        known: whether a row has a label.
        classes: names of the classes; empty for values.
    """

    values: np.ndarray
    known: np.ndarray
    classes: tuple[str, ...]


def labels(
    table: Table,
    column: str,
    classes: Sequence[str] | None,
    regression: bool | None,
    splits: Sequence[str] | None,
    train: str,
) -> Labels:
    """Read a column of labels: words or the integers 0 … n − 1 are classes, other numbers are values.

    Args:
        table: the table.
        column: name of the column.
        classes: names of the classes in the order of the labels; None sorts those of the training rows.
        regression: True reads values, False classes; None decides by the cells, or refuses numbers that may be either.
        splits: split of each row; None if they are not known yet, so that all rows count as training rows.
        train: name of the training split.

    Raises:
        UserError: a row outside `train` without a label, a label that is not in `classes` or in no training row, a
            value that is not a finite number, or numbers that may be classes or values.

    Example:
        >>> import pathlib
        >>> pets = Table(pathlib.Path("pets.csv"), {"species": ["dog", None, "cat"]})
        >>> labels(pets, "species", None, None, None, "train")
        Labels(values=array([1, 0, 0], dtype=int32), known=array([ True, False,  True]), classes=('cat', 'dog'))
    """
    cells = [x.strip() if isinstance(x, str) else x for x in table.columns[column]]
    assigned = list(splits) if splits is not None else [train] * len(cells)
    for i, x in enumerate(cells):
        if isinstance(x, list) or (isinstance(x, str) and x[:1] + x[-1:] == "[]" and x not in (classes or ())):
            raise UserError(
                f"{table.row(i)}: the label {column!r} is a list; expected one word or number: several labels are an "
                'input, ReadArray((n,), "int32"), which tasks.multi_label reads'
            )
        if isinstance(x, str) and x.casefold() in _MISSING and x not in (classes or ()):
            raise UserError(
                f"{table.row(i)}: the label {column!r} is {x!r}: leave the cell empty if it is missing, or pass "
                "classes=… with this name"
            )
        if x is None and assigned[i] != train:
            raise UserError(
                f"{table.row(i)} of split {assigned[i]!r} has no label {column!r}: add it, or remove the row"
            )
    training = [s == train for s in assigned]
    known = np.array([x is not None for x in cells])
    if not any(k and t for k, t in zip(known, training, strict=True)):
        raise UserError(f"{table.path}: no training row has a label {column!r}")
    if classes is not None and (regression or not classes or len(set(classes)) < len(classes)):
        remedy = "regression=True has none" if regression else "expected the names of the classes, each once"
        raise UserError(f"classes={shown(repr(classes))}: {remedy}")
    floats = [0.0 if x is None else float(_number(x)) for x in cells]
    only_numbers = all(map(math.isfinite, floats))
    if regression or (regression is None and classes is None and only_numbers and any(x % 1 for x in floats)):
        return Labels(_float32(table, column, cells, floats), known, ())
    words = [None if x is None else _word(x, v, only_numbers) for x, v in zip(cells, floats, strict=True)]
    if classes is None:
        names = {w for w, t in zip(words, training, strict=True) if t and w is not None}
        if regression is None and only_numbers:
            _check_integers(table, column, cells, names)
        classes = sorted(names, key=(lambda w: (float(w), w)) if only_numbers else None)
        _check_case(table, column, classes)
    index = {w: i for i, w in enumerate(classes)}
    for i, w in enumerate(words):
        if w is not None and w not in index:
            known_classes = shown(choices(classes), 160)
            raise UserError(
                f"{table.row(i)}: the label {shown(repr(w), 60)} is not a class of the training rows or of classes=…: "
                f"{known_classes}"
            )
    values = np.array([0 if w is None else index[w] for w in words], np.int32)
    return Labels(values, known, tuple(classes))


def numeric(table: Table, column: str) -> list[Any]:
    """Read a column of numbers, or of lists of numbers, as JSON writes them; an empty cell is None.

    Raises:
        UserError: a cell is not a finite number.

    Example:
        >>> import pathlib
        >>> numeric(Table(pathlib.Path("pets.csv"), {"age": ["3", None, "4.5", "[1, 2]"]}), "age")
        [3, None, 4.5, [1, 2]]
    """
    cells = table.columns[column]
    found = [number(x) if isinstance(x, str) else x for x in cells]
    for i, (x, value) in enumerate(zip(cells, found, strict=True)):
        if isinstance(value, float) and not math.isfinite(value) and x is not None:
            raise UserError(f"{table.row(i)}: {column!r} is {shown(repr(x), 80)}; expected a number, or an empty cell")
    return found


def number(text: str) -> Any:
    """Return the number in a text, or the list of numbers that JSON writes as `[1, 2.5]`; NaN for other texts.

    Example:
        >>> number("3"), number(" 1e3"), number("[[1, 2.5]]"), number("three")
        (3, 1000.0, [[1, 2.5]], nan)
    """
    if _is_integer(text):
        return int(text)
    if text.strip().startswith("["):
        try:
            return json.loads(text, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            return math.nan
    return _number(text)


def names(table: Table, column: str, what: str) -> list[str]:
    """Read a column of names, such as splits or groups; each row needs one.

    Args:
        table: the table.
        column: name of the column.
        what: what the names are, in messages.
    """
    found = []
    for i, x in enumerate(table.columns[column]):
        if x is None or isinstance(x, list):
            state = "is empty" if x is None else "is a list"
            raise UserError(f"{table.row(i)}: {column!r}, the {what}, {state}: fill it in, or remove the row")
        found.append(x.strip() if isinstance(x, str) else str(x))
    return found


def _number(x):
    """Return a cell as a number, or a list as it is; NaN for texts."""
    if not isinstance(x, str):
        return x
    try:
        return float(x)
    except ValueError:
        return math.nan


def _is_integer(text):
    digits = text.strip().removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) < 20


def _word(x, value, only_numbers):
    """Return the name of a label's class; 3, 3.0 and "3" are one class if all labels are numbers."""
    if only_numbers and value == int(value):
        return str(int(value))
    return x if isinstance(x, str) else str(x)


def _float32(table, column, cells, values):
    with np.errstate(over="ignore"):
        small = np.array(values, np.float32)
    if (wrong := ~np.isfinite(small)).any():
        i = int(np.flatnonzero(wrong)[0])
        raise UserError(f"{table.row(i)}: the label {column!r} is {shown(repr(cells[i]), 80)}; expected a number")
    return small


def _check_integers(table, column, cells, names):
    """Refuse numbers that are neither surely classes nor surely values."""
    whole = [x for x in cells if isinstance(x, float) or (isinstance(x, str) and not _is_integer(x))]
    if not whole and names == {str(i) for i in range(len(names))}:
        return
    ends = sorted(map(int, names))
    raise UserError(
        f"{table.path}: the labels {column!r} are {shown(whole[0] if whole else f'{ends[0]} … {ends[-1]}', 60)}, not "
        "the integers 0 … n − 1: pass regression=True to predict them as values, or regression=False for classes"
    )


def _check_case(table, column, classes):
    seen: dict[str, str] = {}
    for name in classes:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise UserError(
                f"{table.path}: the labels {column!r} {other!r} and {name!r} differ only in case: write them alike, or "
                "pass classes=…"
            )
