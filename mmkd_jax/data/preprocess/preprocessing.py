"""Preprocessing of one raw input: a chain of steps, from values such as paths to columns of a batch."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mmkd_jax.errors import UserError, shown


@runtime_checkable
class Step(Protocol):
    """A preprocessing step: a frozen dataclass with its settings, and a pure function of each row's value."""

    def __call__(self, values: Sequence[Any], names: Sequence[str], /) -> Sequence[Any] | Mapping[str, np.ndarray]:
        """Return the value of each row, or, as the last step, columns by name; `names` are those of messages."""
        ...


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Steps from one raw input to columns of a batch.

    Attributes:
        input: name of the raw input, such as a column of a table; also of the resulting column, unless the last step
            returns several.
        steps: the steps, in order.
    """

    input: str
    steps: tuple[Step, ...]

    def __call__(self, values: Sequence[Any], rows: Sequence[int] | None = None) -> dict[str, np.ndarray]:
        """Return the columns of some rows.

        Args:
            values: raw value of each row: a path, text, array or number.
            rows: number of each row in messages; None counts them.

        Raises:
            UserError: a step refuses a value, or rows have different shapes; the message names row and file.
        """
        names = [_named(self.input, i, x) for i, x in zip(rows or range(len(values)), values, strict=True)]
        current: Any = values
        for step in self.steps:
            current = step(current, names)
        if isinstance(current, Mapping):
            return dict(current)
        arrays = [np.asarray(x) for x in current]
        for name, x in zip(names, arrays, strict=True):
            if x.shape != arrays[0].shape:
                raise UserError(
                    f"{name}: shape {list(x.shape)}, but {names[0]} has {list(arrays[0].shape)}: add a step that gives "
                    "all rows one shape, such as Resize or PadOrTrim"
                )
        return {self.input: np.stack(arrays)}


def _named(name, i, value):
    return f"{name} {i}, {shown(os.fspath(value), 500)}" if isinstance(value, os.PathLike) else f"{name} {i}"
