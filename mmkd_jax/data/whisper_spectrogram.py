"""Log-mel spectrograms on the host, for Whisper."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mmkd_jax.data import sounds, spectrogram

RATE, WINDOW, HOP = 16_000, 400, 160


@dataclasses.dataclass(frozen=True)
class LogMel:
    """Log-mel spectrograms of recordings padded with silence.

    Formula: y = log₁₀ max(mel-weighted |FFT|², 1e-10); (max(y, max y − 8) + 4) / 4

    Attributes:
        mels: number of mel bands.
        frames: number of frames of every recording, at 100 frames per second.
        files: processor files of the folder, for saving.
        modality: name of the batch column.
    """

    mels: int
    frames: int
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict, repr=False)
    modality: str = "audio"

    def __call__(
        self,
        recordings: Sequence[Any] | np.ndarray,
        rate: int | None = None,
        *,
        resample: bool = False,
        channels: sounds.Channels = None,
        cut: bool = True,
        warn: bool = True,
        rows: Sequence[int] | None = None,
    ) -> dict[str, np.ndarray]:
        """Return the batch column [n, frames, mels].

        Args:
            recordings: paths of .wav files, or arrays [n] of floats in −1 … 1 or of int16.
            rate: sample rate of the arrays, Hz.
            resample: resample recordings to 16 kHz; if False, another rate is an error.
            channels: what to do with several channels, as in `data.sounds.waveforms`.
            cut: truncate longer recordings with a warning; if False, they are an error.
            warn: warn about the number of truncated recordings.
            rows: number of each recording in messages; None counts them.

        Raises:
            UserError: an input is not a recording, has another rate, or is too long with cut=False.
        """
        waves = sounds.waveforms(recordings, RATE, rate, resample, channels, self.modality, rows)
        longest = HOP * self.frames
        waves = sounds.bounded(waves, RATE, 1, longest, cut, self.modality, warn, rows, recordings)
        levels = np.zeros((len(waves), self.frames, self.mels), np.float32)
        window, filters = spectrogram.hann(WINDOW), spectrogram.mel_filters(WINDOW, self.mels, RATE, scale="slaney")
        for i, wave in enumerate(waves):
            padded = np.pad(np.pad(wave, (0, longest - len(wave))), WINDOW // 2, "reflect")
            frames = spectrogram.frames(padded, WINDOW, HOP)[: self.frames] * window
            level = np.log10(np.maximum(spectrogram.power(frames) @ filters, 1e-10))
            levels[i] = (np.maximum(level, level.max() - 8) + 4) / 4
        return {self.modality: levels}

    def row_spec(self, options: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
        """Return shape and dtype of one row of the column, for `data.process`; no option of a call changes them."""
        del options
        return {self.modality: jax.ShapeDtypeStruct((self.frames, self.mels), np.dtype(np.float32))}
