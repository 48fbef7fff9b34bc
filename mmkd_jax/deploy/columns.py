"""From the inputs of a student, raw or as columns, to the columns that its program reads."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mmkd_jax.data.narrowing import narrowed
from mmkd_jax.data.preprocess import Preprocessing
from mmkd_jax.data.raw.chains import kind
from mmkd_jax.errors import UserError, choices, shown

Spec = Mapping[str, jax.ShapeDtypeStruct]
_ALIKE = {"b": "b", "i": "iu", "u": "iu", "f": "iuf", "V": "iuf"}  # V is bfloat16
"""Kind of a column -> kinds of Python numbers that it takes."""


def chains(spec: Spec, preprocess: Sequence[Preprocessing]) -> dict[str, list[Preprocessing]]:
    """Return the steps that give a column of the program, by raw input."""
    found: dict[str, list[Preprocessing]] = {}
    for entry in preprocess:
        if {*entry.columns} & {*spec}:
            found.setdefault(entry.input, []).append(entry)
    return found


def required(spec: Spec, preprocess: Sequence[Preprocessing]) -> tuple[str, ...]:
    """Return the inputs that predictions need: raw inputs with steps, and columns that no steps give.

    `present.NAME` is not one of them: it is True except in rows that lack an input.
    """
    raw = chains(spec, preprocess)
    made = {k for entries in raw.values() for entry in entries for k in entry.columns}
    return (*raw, *(k for k in spec if k not in made and not _is_presence(k)))


def kinds(spec: Spec, preprocess: Sequence[Preprocessing]) -> dict[str, str]:
    """Return what the values of each required input are: "text", "number", "path", or "array" for a column itself.

    A "number" may be a list of numbers, if the first of its steps reads lists.
    """
    raw = chains(spec, preprocess)
    return {
        name: kind(name, [entry.steps for entry in raw[name]]) if name in raw
        else "array" if spec[name].shape else "number"
        for name in required(spec, preprocess)
    }  # fmt: skip


def count(inputs: Mapping[str, Any], spec: Spec, preprocess: Sequence[Preprocessing]) -> int:
    """Return the number of rows of the inputs.

    Raises:
        UserError: an input is unknown or missing, is not a list or an array, or has another number of rows.
    """
    needs, raw = required(spec, preprocess), chains(spec, preprocess)
    for name, values in inputs.items():
        if name not in spec and name not in raw and not (values is None and _within(name, spec)):
            raise UserError(f"input {shown(name)!r} is unknown: this student reads {choices(needs)}")
        single = isinstance(values, str | bytes | os.PathLike | Mapping) or not hasattr(values, "__getitem__")
        if values is not None and (single or getattr(values, "ndim", 1) == 0):
            raise UserError(f"input {name!r} is {shown(repr(values))}; expected a list with the value of each row")
    for name in needs:
        columns = [k for entry in raw.get(name, ()) for k in entry.columns if k in spec] or [name]
        without = any(inputs.get(k, ()) is None and name in _within(k, spec) for k in inputs)
        if name not in inputs and not {*columns} <= {*inputs} and not without:
            what = f"input {name!r}" if name in raw else f"column {name!r} ({_described(spec[name])})"
            raise UserError(f"{what} is missing: give its values, or None where a row has none")
    sizes = {k: len(x) for k, x in inputs.items() if x is not None}
    if not sizes:
        raise UserError(f"all inputs are None: give at least one of {choices(needs)}")
    if len({*sizes.values()}) > 1:
        raise UserError(f"the inputs have different numbers of rows: {', '.join(f'{k} {n}' for k, n in sizes.items())}")
    return next(iter(sizes.values()))


def made(
    inputs: Mapping[str, Any], rows: int, spec: Spec, preprocess: Sequence[Preprocessing], start: int = 0
) -> dict[str, np.ndarray]:
    """Return the columns that a program reads.

    Args:
        inputs: name -> raw values, an array that is the column, or None.
        rows: number of rows.
        spec: column -> shape and dtype of one row.
        preprocess: steps from raw inputs to columns.
        start: number of the first row in messages.

    Raises:
        UserError: a value cannot be read, a column has another shape or dtype, a row lacks an input that the student
            was trained with in every row, or lacks all inputs.

    Example:
        >>> dtypes = {"age": "float32", "present.age": "bool", "size": "float32"}
        >>> spec = {k: jax.ShapeDtypeStruct((), t) for k, t in dtypes.items()}
        >>> {k: x.tolist() for k, x in made({"age": [31, None], "size": [7, 8]}, 2, spec, ()).items()}
        {'age': [31.0, 0.0], 'present.age': [True, False], 'size': [7.0, 8.0]}
    """
    found: dict[str, np.ndarray] = {}
    lacking: dict[str, np.ndarray] = {}
    raw = chains(spec, preprocess)
    for name, values in inputs.items():
        if name in spec and isinstance(values, np.ndarray | jax.Array):
            remedy = "give raw values as a list, one for each row" if name in raw else "convert it, as for training"
            found[name] = _checked_column(name, np.asarray(values), spec[name], remedy)
            continue
        lacks = np.ones(rows, bool) if values is None else np.array([x is None for x in values], bool)
        here = np.flatnonzero(~lacks)
        some = [] if values is None else [values[i] for i in here]
        positions = [start + int(i) for i in here]
        remedy = "convert it, as for training"
        if name in raw:
            columns = {k: x for entry in raw[name] for k, x in entry(some, positions).items() if k in spec}
            remedy = "the declared steps are not those of the training data"
        elif values is None:
            columns = {k: np.zeros((0, *spec[k].shape), spec[k].dtype) for k in _within(name, spec)}
        else:
            columns = {name: _stacked(name, some, spec[name], positions)}
        for column, x in columns.items():
            found[column] = np.zeros((rows, *spec[column].shape), spec[column].dtype)
            if len(here):
                found[column][here] = _checked_column(column, x, spec[column], remedy)
            if lacks.any():
                modality = name if f"present.{name}" in spec else column.partition(".")[0]
                lacking[modality] = lacking.get(modality, np.zeros(rows, bool)) | lacks
    for modality, lacks in lacking.items():
        column = f"present.{modality}"
        if column not in spec:
            raise UserError(
                f"row {start + int(np.flatnonzero(lacks)[0])} has no {modality}, and this student does not read "
                f"{column}: it was trained with {modality} in every row"
            )
        found[column] = found.get(column, np.ones(rows, bool)) & ~lacks
    modalities = {k if f"present.{k}" in spec else k.partition(".")[0] for k in spec if not _is_presence(k)}
    if modalities == {*lacking} and len(empty := np.flatnonzero(np.logical_and.reduce([*lacking.values()]))):
        raise UserError(
            f"row {start + empty[0]} lacks all inputs ({choices(modalities)}), so that no prediction is about it: "
            "leave the row out"
        )
    found |= {k: np.ones(rows, bool) for k in spec if _is_presence(k) and k not in found}
    if missing := [k for k in spec if k not in found]:
        raise UserError(f"column {missing[0]!r} ({_described(spec[missing[0]])}) is missing: give its values")
    return {k: found[k] for k in spec}


def _is_presence(column: str) -> bool:
    return column.startswith("present.")


def _within(name: str, spec: Spec) -> list[str]:
    return [k for k in spec if k == name or k.startswith(f"{name}.")]


def _described(row: jax.ShapeDtypeStruct) -> str:
    return f"{row.dtype} [{', '.join(['n', *map(str, row.shape)])}]"


def _stacked(name: str, values: Sequence[Any], row: jax.ShapeDtypeStruct, positions: Sequence[int]) -> np.ndarray:
    """Return the values of a column without steps as an array."""
    for i, x in zip(positions, values, strict=True):
        if isinstance(x, str | bytes | os.PathLike):
            raise UserError(
                f"row {i} of {name!r} is {shown(repr(x))}, and no steps are declared that read it: give the column "
                f"itself, {_described(row)}, or declare them with Training(preprocess=…) and run the experiment again"
            )
    try:
        x = np.asarray(values)
    except ValueError:
        raise UserError(f"rows of {name!r} have different shapes; expected {_described(row)}") from None
    with_dtype = any(hasattr(v, "dtype") for v in values)
    if with_dtype or x.dtype.kind not in _ALIKE.get(np.dtype(row.dtype).kind, ""):
        return x
    exact = x.astype(row.dtype)
    return exact if x.dtype.kind == "f" or (exact == x).all() else x


def _checked_column(name: str, x: np.ndarray, row: jax.ShapeDtypeStruct, remedy: str) -> np.ndarray:
    """Check shape and dtype of a column; numbers of 64 bits are narrowed, as in training."""
    if x.dtype.kind in "biuf" and x.ndim:
        x = narrowed({name: x}, "inputs")[name]
    if x.shape[1:] != row.shape or x.dtype != row.dtype:
        got = _described(jax.ShapeDtypeStruct(x.shape[1:], x.dtype)) if x.dtype.kind in "biufV" else str(x.dtype)
        raise UserError(f"column {name!r} is {got}; this student reads {_described(row)}: {remedy}")
    return x
