"""Preprocessing step: log-mel spectrograms."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from mmkd_jax.data import spectrogram
from mmkd_jax.data.preprocess.row import Row, check_fields, require
from mmkd_jax.errors import UserError
from mmkd_jax.typing import Count, Positive

_LARGEST = 2**24
"""Maximum of window × bands."""


@dataclasses.dataclass(frozen=True)
class LogMel:
    """Log-mel spectrograms [frames, bands] in decibels, computed in double precision.

    Formula: 10 log₁₀ of the mel-weighted |FFT|² of Hann windows that start every `hop` samples, relative to a sine of
        amplitude 1; of n samples, ⌊n / hop⌋ frames, the last ones padded with zeros; levels are at least
        `floor_db`. With `step_db`, round((min(level, 0) − floor_db) / step_db) as uint8

    Attributes:
        rate: sample rate of the waveforms, in Hz.
        bands: number of mel bands.
        window: frame length, in samples.
        hop: hop length, in samples.
        low: lower edge of the first band, in Hz.
        high: upper edge of the last band, in Hz; None for half the sample rate.
        scale: mel scale, as in `spectrogram.mel_filters`.
        floor_db: smallest level, in dB.
        step_db: quantization step in dB, for uint8; None for float32.

    Example:
        >>> LogMel(8_000, bands=2, window=8, hop=4)([np.zeros(8, np.float32)], ["audio 0"])[0].tolist()
        [[-80.0, -80.0], [-80.0, -80.0]]
    """

    rate: Count
    bands: Count = 80
    window: Count = 400
    hop: Count = 160
    low: float = 0.0
    high: float | None = None
    scale: spectrogram.Scale = "htk"
    floor_db: float = -80.0
    step_db: Positive | None = None

    def __post_init__(self):
        check_fields(self)
        top = self.rate / 2 if self.high is None else self.high
        if not 0 <= self.low < top <= self.rate / 2:
            raise UserError(f"LogMel: low={self.low}, high={self.high}; expected 0 ≤ low < high ≤ {self.rate / 2:g} Hz")
        if self.floor_db >= 0 or (self.step_db is not None and not -self.floor_db / 255 <= self.step_db):
            raise UserError(
                f"LogMel: floor_db={self.floor_db}, step_db={self.step_db}; expected floor_db < 0 and "
                "step_db ≥ −floor_db / 255, so that levels fit in uint8"
            )
        if self.window < 2 or self.window * self.bands > _LARGEST:
            raise UserError(f"LogMel: window={self.window}, bands={self.bands}; expected 2 … {_LARGEST:,} / bands")
        if not self._filters().any(0).all():
            raise UserError(
                f"LogMel: bands={self.bands} are too narrow for window={self.window}: some contain no frequency of it: "
                "use fewer bands or a longer window"
            )

    def __call__(
        self, values: Sequence[Float[np.ndarray, " _"]], names: Sequence[str]
    ) -> list[Float[np.ndarray, "_ bands"] | UInt8[np.ndarray, "_ bands"]]:
        """Return the spectrograms.

        Raises:
            UserError: a waveform is shorter than `hop`; names row and file.
        """
        filters, window = self._filters(), np.hanning(self.window)
        return [self._levels(x, name, filters, window) for x, name in zip(values, names, strict=True)]

    def row_spec(self, before: Row) -> Row:
        """Return kind, shape and dtype of each row."""
        if require(before, "waveform").rate != self.rate:
            raise UserError(f"rate is {self.rate} Hz, but the waveforms have {before.rate} Hz: set both to one rate")
        (length,) = before.shape
        if length is not None and length < self.hop:
            raise UserError(f"waveforms of {length} samples have no frame; expected {self.hop} or more")
        frames = None if length is None else length // self.hop
        return Row("array", (frames, self.bands), "float32" if self.step_db is None else "uint8")

    def _levels(self, x, name, filters, window):
        if len(x) < self.hop:
            raise UserError(f"{name}: {len(x)} samples are too few; expected {self.hop} or more")
        frames = spectrogram.frames(np.pad(x, (0, self.window)), self.window, self.hop)[: len(x) // self.hop]
        energy = spectrogram.power(frames * window) / (self.window / 4) ** 2
        level = 10 * np.log10(energy @ filters + 1e-12)
        if self.step_db is None:
            return np.maximum(level, self.floor_db).astype(np.float32)
        return np.round((np.clip(level, self.floor_db, 0) - self.floor_db) / self.step_db).astype(np.uint8)

    def _filters(self):
        return spectrogram.mel_filters(self.window, self.bands, self.rate, self.low, self.high, self.scale)
