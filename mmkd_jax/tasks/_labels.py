"""Checks of label columns, which name the first bad row."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmkd_jax.errors import UserError, choices


def check_count(task: str, name: str, value: Any, least: int = 1) -> None:
    """Raise if an argument is not a number of classes, levels or answers."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise UserError(f"{task}: {name}={value!r}; expected their number{f', at least {least}' * (least > 1)}")


def column(columns: Mapping[str, Any], name: str, task: str, shape: tuple[int | None, ...] = ()) -> np.ndarray:
    """Return a column that a task needs, with rows of a shape; None is any size.

    Raises:
        UserError: the column is missing, or its rows have another shape.
    """
    if name not in columns:
        raise UserError(f"{task} needs a column {name!r}; there are: {choices(columns)}")
    values = np.asarray(columns[name])
    if values.ndim != 1 + len(shape) or any(n not in (None, m) for n, m in zip(shape, values.shape[1:], strict=True)):
        expected = ", ".join("n" if n is None else str(n) for n in ("rows", *shape))
        raise UserError(f"{name!r} has shape {list(values.shape)}; {task} needs [{expected}]")
    return values


def check_kind(columns: Mapping[str, Any], name: str, kind: type, needs: str, before: str = "labels {!r} are") -> None:
    """Raise if a column has values of another dtype than a task needs; names the first row that no cast would mend.

    Args:
        columns: the columns.
        name: name of the column.
        kind: class of the dtypes, np.integer or np.floating.
        needs: a clause for the message, such as "regression needs floats".
        before: start of the message, around the name.
    """
    values = np.asarray(columns[name])
    if np.issubdtype(values.dtype, kind):
        return
    rows = np.asarray(columns.get("valid", True))
    valid = np.ones(values.shape, bool) & rows.reshape(*rows.shape, *[1] * (values.ndim - rows.ndim))
    same = np.zeros(values.shape, bool)  # after a cast
    if np.issubdtype(values.dtype, np.number):
        same = (values == np.floor(values)) | (kind is np.floating)
    broken, found = valid & ~same, ""
    if valid.any():
        at = tuple(int(i) for i in np.argwhere(broken if broken.any() else valid)[0])
        where = f"row {at[0]}" + "".join(f", column {i}" for i in at[1:])
        dtype = "np.float32" if kind is np.floating else "np.int32"
        remedy = "" if broken.any() else f"; convert them with .astype({dtype})"
        found = f": {where} has {values[at].item()!r}{remedy}"
    raise UserError(f"{before.format(name)} {values.dtype}; {needs}{found}")


def refuse(columns: Mapping[str, Any], name: str, values: np.ndarray, wrong: np.ndarray, remedy: str) -> None:
    """Raise if a value is wrong in a row that is valid; names the first one."""
    valid = np.broadcast_to(np.asarray(columns.get("valid", True)), len(values))
    wrong = wrong & valid.reshape(-1, *[1] * (wrong.ndim - 1))
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        where = f"row {at[0]}" + "".join(f", column {i}" for i in at[1:])
        rows = int(wrong.reshape(len(wrong), -1).any(1).sum())
        raise UserError(f"{name!r} is {values[at]} in {where} ({rows} such rows): {remedy}")
