"""Preprocessing step: texts as ids of characters."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from mmkd_jax.data import text
from mmkd_jax.data.preprocess.row import Row, check_fields, require
from mmkd_jax.typing import Count


@dataclasses.dataclass(frozen=True)
class Characters:
    """Encode texts as ids of characters, `INPUT.ids`, and their mask, `INPUT.mask`; see `data.text.characters`.

    Attributes:
        length: number of characters of each row; longer texts are truncated.

    Example:
        >>> Characters(4)(["ab!"], ["text 0"])[".ids"].tolist()
        [[2, 3, 1, 0]]
    """

    length: Count
    __post_init__ = check_fields

    def __call__(self, values: Sequence[str | bytes], names: Sequence[str]) -> Mapping[str, np.ndarray]:
        """Return the columns.

        Raises:
            UserError: a value is not a text; names the row.
        """
        ids, mask = text.characters(list(text.decoded(values, "", names)), self.length)
        return {".ids": ids, ".mask": mask}

    def row_spec(self, before: Row) -> Mapping[str, Row]:
        """Return kind, shape and dtype of each column's rows."""
        require(before, "raw value")
        return {k: Row("array", (self.length,), dtype) for k, dtype in ((".ids", "int32"), (".mask", "bool"))}
