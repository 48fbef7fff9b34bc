"""Preprocessing step: pad or trim to one length."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from mmkd_jax.data.preprocess.row import Row, check_fields, require
from mmkd_jax.errors import UserError
from mmkd_jax.typing import Count


@dataclasses.dataclass(frozen=True)
class PadOrTrim:
    """Pad waveforms or arrays with zeros at their end, or trim it, to one length of the first axis.

    Attributes:
        length: the length; of waveforms, in samples.
        mask: also return the mask of the values that are not padding, as column `INPUT.mask`; for the last step.

    Example:
        >>> [x.tolist() for x in PadOrTrim(2)([np.ones(1), np.ones(3)], ["audio 0", "audio 1"])]
        [[1.0, 0.0], [1.0, 1.0]]
    """

    length: Count
    mask: bool = False
    __post_init__ = check_fields

    def __call__(
        self, values: Sequence[np.ndarray], names: Sequence[str]
    ) -> list[np.ndarray] | Mapping[str, np.ndarray]:
        """Return the arrays, or their column and its mask."""
        result = [np.zeros((self.length, *x.shape[1:]), x.dtype) for x in values]
        for row, x in zip(result, values, strict=True):
            row[: len(x)] = x[: self.length]
        if not self.mask:
            return result
        lengths = np.array([len(x) for x in values], np.int64)
        return {"": np.stack(result), ".mask": np.arange(self.length)[None] < lengths[:, None]}

    def row_spec(self, before: Row) -> Row | Mapping[str, Row]:
        """Return kind, shape and dtype of each row."""
        if not require(before, "waveform", "array").shape:
            raise UserError("rows are single numbers, which have no length")
        row = dataclasses.replace(before, shape=(self.length, *before.shape[1:]))
        return {"": row, ".mask": Row("array", (self.length,), "bool")} if self.mask else row
