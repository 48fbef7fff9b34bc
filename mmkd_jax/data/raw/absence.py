"""Inputs that rows of raw data lack: in all training rows an error, in all inputs of a row worth a line."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool

from mmkd_jax.errors import UserError

Present = Mapping[str, Bool[np.ndarray, " rows"]]


def check(present: Present, training: Bool[np.ndarray, " rows"]) -> None:
    """Raise a UserError if all training rows lack an input.

    Args:
        present: input -> rows that have it.
        training: rows of the training split.
    """
    for name, rows in present.items():
        if not rows.any():
            raise UserError(f"input {name!r} is empty in all rows: leave it out")
        if not rows[training].any():
            raise UserError(
                f"input {name!r} is empty in all {training.sum():,} training rows, so that nothing is learned from it: "
                "leave it out"
            )


def empty_rows(present: Present) -> str:
    """Describe the rows that lack all inputs; empty without such rows.

    Example:
        >>> empty_rows({"photo": np.array([True, False]), "sound": np.array([True, False])})
        '1 of 2 rows lacks all inputs (the first is row 1)'
    """
    found = np.flatnonzero(~np.any([*present.values()], 0))
    size = len(next(iter(present.values())))
    verb = "lacks" if len(found) == 1 else "lack"
    return f"{len(found):,} of {size:,} rows {verb} all inputs (the first is row {found[0]})" if len(found) else ""
