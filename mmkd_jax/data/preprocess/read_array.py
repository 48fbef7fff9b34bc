"""Preprocessing step: read numbers and arrays as they are."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from mmkd_jax.data.preprocess.row import Row, check_fields, require
from mmkd_jax.errors import UserError, shown


@dataclasses.dataclass(frozen=True)
class ReadArray:
    """Read numbers, or arrays and lists of a fixed shape.

    Attributes:
        shape: shape of each value; () for single numbers.
        dtype: dtype of the result; values that it cannot hold are refused, floats are rounded to it.

    Example:
        >>> ReadArray((2,))([[1, 2.5]], ["size 0"])[0]
        array([1. , 2.5], dtype=float32)
    """

    shape: tuple[int, ...] = ()
    dtype: Literal["float32", "int32", "uint8", "bool"] = "float32"
    __post_init__ = check_fields

    def __call__(self, values: Sequence[Any], names: Sequence[str]) -> list[np.ndarray]:
        """Return the arrays.

        Raises:
            UserError: a value has another shape, is not a number, or does not fit in the dtype; names the row.
        """
        return [self._read(x, name) for x, name in zip(values, names, strict=True)]

    def row_spec(self, before: Row) -> Row:
        """Return kind, shape and dtype of each row."""
        require(before, "raw value")
        return Row("array", self.shape, self.dtype)

    def _read(self, value, name):
        try:
            x = np.asarray(value)
        except ValueError:  # lists of unequal lengths
            raise UserError(f"{name}: a list of unequal lengths; expected shape {list(self.shape)}") from None
        if x.dtype.kind not in "biuf" or x.shape != self.shape:
            found = shown(repr(value)) if x.dtype.kind not in "biuf" else f"shape {list(x.shape)}"
            raise UserError(f"{name}: {found}; expected numbers of shape {list(self.shape)}")
        with np.errstate(all="ignore"):
            result = x.astype(self.dtype)
            same = np.isfinite(result) == np.isfinite(x) if self.dtype == "float32" else result == x
        if not np.all(same):
            raise UserError(f"{name}: {shown(repr(x[~np.asarray(same)][0]))} does not fit in {self.dtype}: scale it")
        return result
