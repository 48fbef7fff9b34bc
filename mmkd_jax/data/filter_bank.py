"""Kaldi-compatible log-mel filter bank features on the host, for the Audio Spectrogram Transformer."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mmkd_jax.data import sounds, spectrogram

RATE, WINDOW, HOP, TRANSFORM = 16_000, 400, 160, 512


@dataclasses.dataclass(frozen=True)
class FilterBank:
    """Kaldi-compatible log-mel filter bank features, truncated or zero-padded, then normalized.

    Formula: y[i] = x[i] − .97 x[i−1] for each frame x minus its mean, with x[−1] = x[0];
        (log(mel-weighted |FFT(y)|²) − mean) / 2 std

    Attributes:
        mels: number of mel bands.
        frames: number of frames of every recording, at 100 frames per second.
        mean: mean level of the training data; the default is AudioSet's.
        std: standard deviation of the levels of the training data.
        files: processor files of the folder, for saving.
        modality: name of the batch column.
    """

    mels: int
    frames: int
    mean: float = -4.2677393
    std: float = 4.5689974
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
            recordings: paths of .wav files, or arrays [n] of floats in −1 … 1 or of int16, of 25 ms or more.
            rate: sample rate of the arrays, Hz.
            resample: resample recordings to 16 kHz; if False, another rate is an error.
            channels: what to do with several channels, as in `data.sounds.waveforms`.
            cut: truncate longer recordings with a warning; if False, they are an error.
            warn: warn about the number of truncated recordings.
            rows: number of each recording in messages; None counts them.

        Raises:
            UserError: an input is not a recording, has another rate, is shorter than a frame, or is too long with
                cut=False.
        """
        waves = sounds.waveforms(recordings, RATE, rate, resample, channels, self.modality, rows)
        longest = WINDOW + HOP * self.frames - 1
        waves = sounds.bounded(waves, RATE, WINDOW, longest, cut, self.modality, warn, rows, recordings)
        levels = np.zeros((len(waves), self.frames, self.mels))
        filters = spectrogram.mel_filters(TRANSFORM, self.mels, RATE, low=20.0, scale="kaldi")
        for i, wave in enumerate(waves):
            x = spectrogram.frames(wave.astype(np.float64), WINDOW, HOP)
            x = x - x.mean(1, keepdims=True)
            x = x - 0.97 * np.concatenate([x[:, :1], x[:, :-1]], 1)
            energy = spectrogram.power(x * np.hanning(WINDOW), TRANSFORM) @ filters
            levels[i, : len(x)] = np.log(np.maximum(energy, np.finfo(np.float32).eps))
        return {self.modality: ((levels - self.mean) / (2 * self.std)).astype(np.float32)}

    def row_spec(self, options: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
        """Return shape and dtype of one row of the column, for `data.process`; no option of a call changes them."""
        del options
        return {self.modality: jax.ShapeDtypeStruct((self.frames, self.mels), np.dtype(np.float32))}
