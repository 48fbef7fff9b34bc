"""Preprocessing step: read a recording at a sample rate."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, Literal

from jaxtyping import Float
from numpy import ndarray

from mmkd_jax.data import sounds, wav_file
from mmkd_jax.data.preprocess.row import Row, check_fields, require
from mmkd_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Resample:
    """Read recordings as mono float32 waveforms in −1 … 1 at one sample rate.

    Values are paths or contents (bytes) of .wav files, or arrays [n] or [n, c] of int16, or of floats in −1 … 1.

    Attributes:
        rate: sample rate of the result, in Hz.
        channels: "mean" averages the channels of a recording; an index selects one; None refuses several.
        source_rate: sample rate of arrays, in Hz; None refuses arrays. Files contain their own.
        strict: refuse other sample rates; if False, recordings are resampled.

    Example:
        >>> import numpy as np
        >>> Resample(8_000, source_rate=4_000)([np.zeros(10, np.int16)], ["audio 0"])[0].shape
        (20,)
    """

    rate: int
    channels: Literal["mean"] | int | None = "mean"
    source_rate: int | None = None
    strict: bool = False

    def __post_init__(self):
        check_fields(self)
        for name in ("rate", "source_rate"):
            if (x := getattr(self, name)) is not None and not wav_file.RATES[0] <= x <= wav_file.RATES[1]:
                raise UserError(f"Resample: {name} is {x}; expected {wav_file.RATES[0]} … {wav_file.RATES[1]} Hz")

    def __call__(self, values: Sequence[Any], names: Sequence[str]) -> list[Float[ndarray, " _"]]:
        """Return the waveforms.

        Raises:
            UserError: a value or file is not a recording, is damaged, or has another rate; names row and file.
        """
        return [self._read(x, name) for x, name in zip(values, names, strict=True)]

    def row_spec(self, before: Row) -> Row:
        """Return kind, shape and dtype of each row."""
        require(before, "raw value")
        return Row("waveform", (None,), "float32", self.rate)

    def _read(self, value, name):
        if self.source_rate is None and not isinstance(value, str | bytes | os.PathLike):
            kind = type(value).__name__
            raise UserError(
                f"{name}: {kind} without a sample rate; expected the path of a .wav file, or set source_rate"
            )
        remedy = "resample it, with strict=False"
        return sounds.waveform(name, value, self.rate, self.source_rate, not self.strict, self.channels, remedy)
