"""Preprocessing step: normalize with fixed statistics."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from mmkd_jax.data.preprocess.row import Row, check_fields, require
from mmkd_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Normalize:
    """Normalize with the mean and standard deviation of the training data, to float32.

    Formula: (scale x − mean) / std

    Attributes:
        mean: mean of each channel, the last axis; a single one for all.
        std: standard deviation of each channel, above 0.
        scale: factor before the mean is subtracted; None for 1/255 of images and videos, and 1 of others.

    Example:
        >>> Normalize((0.5,), (0.5,))([np.full((1, 1, 3), 255, np.uint8)], ["image 0"])[0].tolist()
        [[[1.0, 1.0, 1.0]]]
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float | None = None

    def __post_init__(self):
        check_fields(self)
        if not 0 < len(self.mean) == len(self.std) or min(self.std) <= 0:
            raise UserError(f"Normalize: mean={self.mean}, std={self.std}; expected as many, and std above 0")

    def __call__(self, values: Sequence[np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        """Return the normalized arrays."""
        mean, std = (np.array(x if len(x) > 1 else x[0], np.float32) for x in (self.mean, self.std))
        return [np.asarray((np.float32(x) * self._scale(x) - mean) / std) for x in values]

    def row_spec(self, before: Row) -> Row:
        """Return kind, shape and dtype of each row."""
        require(before, "image", "video", "waveform", "array")
        if len(self.mean) > 1 and (not before.shape or before.shape[-1] != len(self.mean)):
            raise UserError(f"mean has {len(self.mean)} values, but rows have shape {list(before.shape)}")
        if before.kind == "array" and before.dtype == "uint8" and self.scale is None:
            raise UserError("rows are uint8, but no image: set scale, such as scale=1.0")
        kind = "waveform" if before.kind == "waveform" else "array"
        return Row(kind, before.shape, "float32", before.rate)

    def _scale(self, x):
        return np.float32((1 / 255 if x.dtype == np.uint8 else 1.0) if self.scale is None else self.scale)
