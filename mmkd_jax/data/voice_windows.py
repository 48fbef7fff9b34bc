"""Mel spectrograms in windows on the host, for Resemblyzer's speaker encoder."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from mmkd_jax.data import sounds, spectrogram

RATE, WINDOW, HOP = 16_000, 400, 160
STEP, COVERED, LOUDNESS = 77, 0.75, 10 ** (-30 / 20)
"""Stride between windows in frames, minimum fraction of the last window to fill, and −30 dBFS."""


@dataclasses.dataclass(frozen=True)
class Windows:
    """Mel spectrograms (no logarithm) in half-overlapping windows, as in Resemblyzer's `embed_utterance`.

    Quiet recordings are amplified to −30 dBFS. Silence is not removed, unlike in Resemblyzer's `preprocess_wav`.

    Attributes:
        mels: number of mel bands.
        window: frames per window, at 100 frames per second.
        modality: name of the batch column.
    """

    mels: int = 40
    window: int = 160
    modality: str = "audio"

    def __call__(
        self,
        recordings: Sequence[Any] | np.ndarray,
        rate: int | None = None,
        *,
        resample: bool = False,
        channels: sounds.Channels = None,
        length: int | None = None,
        cut: bool = True,
        warn: bool = True,
        rows: Sequence[int] | None = None,
    ) -> dict[str, np.ndarray]:
        """Return the concatenated windows, `audio` [n, t, mels], and the mask of frames, `audio.mask` [n, t].

        Args:
            recordings: paths of .wav files, or arrays [n] of floats in −1 … 1 or of int16; of any length.
            rate: sample rate of the arrays, Hz.
            resample: resample recordings to 16 kHz; if False, another rate is an error.
            channels: what to do with several channels, as in `data.sounds.waveforms`.
            length: samples at 16 kHz whose windows every row has; None for those of the longest recording.
            cut: truncate recordings longer than `length` with a warning; if False, they are an error.
            warn: warn about the number of truncated recordings.
            rows: number of each recording in messages; None counts them.

        Raises:
            UserError: an input is not a recording, is empty, has another rate, or is too long with cut=False.
        """
        waves = sounds.waveforms(recordings, RATE, rate, resample, channels, self.modality, rows)
        waves = sounds.bounded(waves, RATE, 1, length, cut, self.modality, warn, rows, recordings)
        windows = [self._windows(wave.astype(np.float64)) for wave in waves]
        t = max(map(len, windows), default=self.window)
        t = t if length is None else self.window * len(self._starts(length))
        frames, mask = np.zeros((len(windows), t, self.mels), np.float32), np.zeros((len(windows), t), bool)
        for i, x in enumerate(windows):
            frames[i, : len(x)], mask[i, : len(x)] = x, True
        return {self.modality: frames, f"{self.modality}.mask": mask}

    def _windows(self, wave):
        wave = wave * max(1, LOUDNESS / max(np.sqrt(np.mean(wave**2)), np.finfo(np.float32).tiny))
        starts, span = self._starts(len(wave)), self.window * HOP
        frames = mel(np.pad(wave, (0, max(0, starts[-1] * HOP + span - len(wave)))), self.mels)
        return np.concatenate([frames[s : s + self.window] for s in starts])

    def _starts(self, samples):
        """Return the first frame of each window of a recording."""
        count = -(-(samples + 1) // HOP)
        starts = list(range(0, max(1, count - self.window + STEP + 1), STEP))
        if len(starts) > 1 and samples - starts[-1] * HOP < COVERED * self.window * HOP:
            starts.pop()
        return starts

    def row_spec(self, options: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
        """Return shapes and dtypes of one row of the columns, for `data.process`; `options` are those of a call.

        Raises:
            UserError: without `length`, the shape depends on the longest recording.
        """
        t = self.window * len(self._starts(sounds.fixed_length(options, RATE, 1, self.modality)))
        frames = jax.ShapeDtypeStruct((t, self.mels), np.dtype(np.float32))
        return {self.modality: frames, f"{self.modality}.mask": jax.ShapeDtypeStruct((t,), np.dtype(np.bool_))}


def mel(wave: Float[np.ndarray, " n"], bands: int = 40) -> Float[np.ndarray, "t bands"]:
    """Compute a mel spectrogram, mel-weighted |FFT|² at 100 frames per second, with zero-padded ends.

    Args:
        wave: waveform at 16 kHz.
        bands: number of mel bands.

    Example:
        >>> mel(np.zeros(1_600)).shape
        (11, 40)
    """
    frames = spectrogram.frames(np.pad(wave, WINDOW // 2), WINDOW, HOP) * spectrogram.hann(WINDOW)
    return spectrogram.power(frames) @ spectrogram.mel_filters(WINDOW, bands, RATE, scale="slaney")
