"""Columns in the dtypes that JAX computes with; a value that does not fit is refused, never wrapped or rounded to ∞."""

from collections.abc import Mapping
from typing import Any

import jax.numpy
import numpy as np

from mmkd_jax.errors import UserError

_NARROW = {"int64": np.int32, "uint64": np.int32, "float64": np.float32, "longdouble": np.float32}


def narrowed(columns: Mapping[str, Any], name: str) -> dict[str, np.ndarray]:
    """Convert columns to NumPy arrays of at most 32 bits a number; values are compared before and after.

    Numbers of 64 bits become int32 or float32, so that data in memory and streamed data are the same bits. Floats are
    rounded; integers must fit.

    Args:
        columns: column name -> array, or list of numbers or texts.
        name: name of the data set, for errors.

    Raises:
        UserError: an integer beyond 32 bits, a float beyond float32, a non-integer `example_id`, or a column that is
            not an array; names column, row and value.

    Example:
        >>> narrowed({"x": [0.5, 2]}, "mine")["x"].dtype
        dtype('float32')
        >>> narrowed({"x": np.array([1.0, 1e40])}, "mine")
        Traceback (most recent call last):
        mmkd_jax.errors.UserError: data set 'mine': 'x' is 1e+40 in row 1, beyond float32: scale it
    """
    return {k: _narrowed(k, x, f"data set {name!r}: {k!r}") for k, x in columns.items()}


def _narrowed(column, values, where):
    try:
        x = np.asarray(values)
    except ValueError:  # NumPy refuses lists of unequal lengths
        raise UserError(f"{where} is a list of unequal lengths: pad it, and add a mask") from None
    if x.dtype == object and x.ndim and all(isinstance(v, str) for v in x.flat):  # as pandas has them
        x = x.astype(str)
    texts = x.dtype == object and x.ndim and all(isinstance(v, bytes) for v in x.flat)
    number = x.dtype.kind in "biuSU" or jax.numpy.issubdtype(x.dtype, jax.numpy.inexact)
    if x.ndim == 0 or not (number or texts):
        what = "a single value" if x.ndim == 0 else f"{x.dtype}"
        raise UserError(f"{where} is {what}; expected an array of numbers, bools or texts with one entry for each row")
    if column == "example_id" and (x.dtype.kind not in "iu" or x.ndim != 1):
        raise UserError(f"{where} is {x.dtype}{list(x.shape)}; expected an integer for each row")
    kind = _NARROW.get(x.dtype.name) or (np.int32 if x.dtype == np.uint32 and column == "example_id" else None)
    if kind is None:
        return x
    with np.errstate(over="ignore"):
        small = x.astype(kind)
    wrong = np.isinf(small) & np.isfinite(x) if x.dtype.kind == "f" else small != x
    if wrong.any():
        first = tuple(np.argwhere(wrong)[0])
        remedy = "scale it" if x.dtype.kind == "f" else "renumber it from 0, as in np.unique(x, return_inverse=True)[1]"
        raise UserError(f"{where} is {x[first]} in row {first[0]}, beyond {np.dtype(kind)}: {remedy}")
    return small
