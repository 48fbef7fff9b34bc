"""A file of a format, in one variant or with one damage, and what becomes of it."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Case(NamedTuple):
    """A row of docs/readers.md.

    Attributes:
        format: name of the format.
        variant: variant or damage, in words.
        make: `(path)`, writes the file.
        expected: the values that are read; or a regular expression that the error matches.
        shown: what becomes of the file, in words.
        options: options of the reader.
    """

    format: str
    variant: str
    make: Callable[[pathlib.Path], Any]
    expected: np.ndarray | list[Any] | str
    shown: str = "read"
    options: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        return f"{self.format}, {self.variant}"
