"""Preprocessing of one raw input: a chain of steps, from values such as paths to columns of a batch."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from mmkd_jax.data.preprocess.center_crop import CenterCrop
from mmkd_jax.data.preprocess.characters import Characters
from mmkd_jax.data.preprocess.log_mel import LogMel
from mmkd_jax.data.preprocess.normalize import Normalize
from mmkd_jax.data.preprocess.pad_or_trim import PadOrTrim
from mmkd_jax.data.preprocess.processed import PROCESSORS, Processed
from mmkd_jax.data.preprocess.read_array import ReadArray
from mmkd_jax.data.preprocess.read_image import ReadImage
from mmkd_jax.data.preprocess.read_video import ReadVideo
from mmkd_jax.data.preprocess.resample import Resample
from mmkd_jax.data.preprocess.resize import Resize
from mmkd_jax.data.preprocess.row import RAW, Row
from mmkd_jax.data.preprocess.tokenize import Tokenize
from mmkd_jax.data.preprocess.tokenize_words import TokenizeWords
from mmkd_jax.errors import UserError, choices, shown

STEPS = (
    *(ReadImage, Resize, CenterCrop, Normalize),
    *(Resample, PadOrTrim, LogMel),
    *(Tokenize, TokenizeWords, Characters, ReadVideo, ReadArray, Processed),
)
"""Steps that can be saved with a student."""
_LARGEST = 2**28
"""Maximum number of values of a row."""


@runtime_checkable
class Step(Protocol):
    """A preprocessing step: a frozen dataclass with its settings, and a pure function of each row's value."""

    def __call__(self, values: Any, names: Sequence[str], /) -> Sequence[Any] | Mapping[str, np.ndarray]:
        """Return the value of each row, or, as the last step, columns by name.

        Args:
            values: value of each row.
            names: name and row of each in messages, such as "photo 3"; after the first step, with the file.

        Returns:
            Values, or name -> column; a name that is empty or starts with a period continues that of the input.
        """
        ...

    def row_spec(self, before: Row, /) -> Row | Mapping[str, Row]:
        """Return kind, shape and dtype of each row, or raise if the step cannot follow `before`."""
        ...


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Steps from one raw input to columns of a batch.

    Attributes:
        input: name of the raw input, such as a column of a table; also of the resulting column, unless the last step
            returns several.
        steps: the steps, in order.

    Raises:
        UserError: there are no steps, a step is not of this library, or cannot follow the one before it.

    Example:
        >>> from mmkd_jax.data.preprocess import CenterCrop, ReadImage, Resize
        >>> photo = Preprocessing("photo", (ReadImage(), Resize(8), CenterCrop((8, 8))))
        >>> photo([np.zeros((12, 16, 3), np.uint8)])["photo"].shape
        (1, 8, 8, 3)
    """

    input: str
    steps: tuple[Step, ...]

    def __post_init__(self):
        if not isinstance(self.input, str) or not self.input:
            raise UserError(f"preprocessing: input is {shown(repr(self.input))}; expected the name of a raw input")
        if not isinstance(self.steps, tuple) or not self.steps:
            raise UserError(f"{self._name}: steps is {shown(repr(self.steps))}; expected a tuple of steps")
        for i, step in enumerate(self.steps):
            if type(step) not in STEPS:
                known = choices(x.__name__ for x in STEPS)
                raise UserError(f"{self._name}, step {i + 1} is {shown(repr(step))}; expected one of {known}")
            if isinstance(step, Processed) and type(step.processor) not in PROCESSORS:
                known = choices(x.__name__ for x in PROCESSORS)
                name = type(step.processor).__name__
                raise UserError(f"{self._name}, step {i + 1}: processor {name} cannot be saved; expected {known}")
        self._rows()

    def __call__(self, values: Sequence[Any], rows: Sequence[int] | None = None) -> dict[str, np.ndarray]:
        """Return the columns of some rows.

        Args:
            values: raw value of each row: a path, text, array or number.
            rows: number of each row in messages; None counts them.

        Raises:
            UserError: a single value instead of a sequence, a step refuses a value, or rows have different shapes; the
                message names row and file.
        """
        if isinstance(values, str | bytes | os.PathLike):
            raise UserError(f"{self.input}: expected a sequence of values, got a single one: put it in a list")
        if not len(values):
            return {k: np.zeros((0, *x.shape), x.dtype) for k, x in self.row_spec().items()}
        names = [f"{self.input} {i}" for i in (range(len(values)) if rows is None else rows)]
        with_files = [_with_file(name, x) for name, x in zip(names, values, strict=True)]
        current: Any = values
        for i, step in enumerate(self.steps):
            current = step(current, with_files if i else names)
        if isinstance(current, Mapping):
            return {self._column(k): x for k, x in current.items()}
        for name, x in zip(with_files, current, strict=True):
            if x.shape != current[0].shape:
                raise UserError(
                    f"{name}: shape {list(x.shape)}, but {with_files[0]} has {list(current[0].shape)}: add a step that "
                    "gives all rows one shape, such as Resize or PadOrTrim"
                )
        return {self.input: np.stack(current)}

    def row_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Return shape and dtype of one row of each column.

        Raises:
            UserError: a shape depends on the row.
        """
        spec = self._rows()
        if free := [k for k, x in spec.items() if None in x.shape]:
            remedy = "add a step that gives all rows one shape, such as Resize or PadOrTrim"
            raise UserError(f"{self._name}: the shape of {free[0]!r} differs from row to row: {remedy}")
        return {k: jax.ShapeDtypeStruct(x.shape, np.dtype(x.dtype)) for k, x in spec.items()}

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the resulting columns."""
        return tuple(self._rows())

    @property
    def _name(self):
        return f"preprocessing of {shown(repr(self.input))}"

    def _column(self, name):
        return f"{self.input}{name}" if not name or name.startswith(".") else name

    def _rows(self) -> dict[str, Row]:
        row: Any = RAW
        for i, step in enumerate(self.steps):
            where = f"{self._name}, step {i + 1}, {type(step).__name__}"
            if isinstance(row, Mapping):
                raise UserError(f"{where}: {type(self.steps[i - 1]).__name__} gives columns, so that it must be last")
            try:
                row = step.row_spec(row)
            except UserError as error:
                raise error.within(where) from None
            for x in row.values() if isinstance(row, Mapping) else (row,):
                if np.prod([float(n or 1) for n in x.shape]) > _LARGEST:
                    raise UserError(f"{where}: shape {list(x.shape)}; expected {_LARGEST:,} values or less")
        return {self._column(k): x for k, x in row.items()} if isinstance(row, Mapping) else {self.input: row}


def followed(
    entries: Sequence[Preprocessing], column: str, step: Step, remove: bool = True
) -> tuple[Preprocessing, ...]:
    """Return the declared steps of a data set one of whose columns is processed.

    Args:
        entries: steps that are declared so far.
        column: the column that is processed: a raw input, or the result of declared steps.
        step: the step.
        remove: the column is removed.

    Returns:
        The steps, with those from the raw input to the new columns, unless the step cannot be saved.

    Raises:
        UserError: the step cannot follow those of the column.
    """
    before = [x for x in entries if column in x.columns]
    rest = tuple(x for x in entries if not (remove and x in before))
    if isinstance(step, Processed) and type(step.processor) not in PROCESSORS:
        return rest
    chains = [(x.input, x.steps) for x in before if x.columns == (column,)] if before else [(column, ())]
    return (*rest, *(Preprocessing(name, (*steps, step)) for name, steps in chains))


def _with_file(name, value):
    return f"{name}, {shown(os.fspath(value), 500)}" if isinstance(value, str | os.PathLike) else name
