"""Preprocessing step that is fitted first: mean 0 and standard deviation 1 over the training rows."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from mmkd_jax.data.preprocess.normalize import Normalize
from mmkd_jax.data.preprocess.row import Row, require
from mmkd_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Standardize:
    """Standardize with statistics of the training rows; `from_files` makes it a `Normalize`.

    Formula: (x − mean) / std for each channel, the last axis; over all values of single numbers and of waveforms

    Example:
        >>> Standardize().fit([np.array(1.0), np.array(3.0)], ["age 0", "age 1"], Row("array", (), "float32"), "age")
        Normalize(mean=(2.0,), std=(1.0,), scale=1.0)
    """

    def fit(self, values: Sequence[np.ndarray], names: Sequence[str], before: Row, input: str) -> Normalize:
        """Return the step with the statistics of these values.

        Raises:
            UserError: values are not read yet, or a channel has the same value in all rows.
        """
        require(before, "image", "video", "waveform", "array")
        channels = before.shape[-1] if before.shape and before.kind != "waveform" else 1
        count, mean, squares = 0, np.zeros(1), np.zeros(1)
        for x in values:
            rows = np.asarray(x, np.float64).reshape(-1, channels or np.shape(x)[-1])
            n, center = len(rows), rows.mean(0)
            squares = squares + ((rows - center) ** 2).sum(0) + (center - mean) ** 2 * count * n / (count + n)
            mean, count = mean + (center - mean) * n / (count + n), count + n
        std = np.sqrt(squares / count)
        if not (std > 0).all():
            k = int(np.argmin(std))
            raise UserError(f"Standardize: channel {k} of {input!r} is {mean[k]:g} in all training rows: leave it out")
        return Normalize(tuple(mean.tolist()), tuple(std.tolist()), scale=1.0)
