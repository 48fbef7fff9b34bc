"""Mel spectrograms on the host, in double precision: windows, frames, filter banks."""

from typing import Literal

import numpy as np
from jaxtyping import Float

Scale = Literal["htk", "slaney", "kaldi"]


def hann(size: int) -> Float[np.ndarray, " n"]:
    """Periodic Hann window, for spectral analysis; `numpy.hanning` is the symmetric one.

    Formula: sin²(π i / n)
    """
    return np.hanning(size + 1)[:-1]


def frames(wave: Float[np.ndarray, " n"], size: int, hop: int) -> Float[np.ndarray, "t size"]:
    """Split a waveform into overlapping frames, as NumPy views; an incomplete last frame is dropped.

    Args:
        wave: samples.
        size: frame length, in samples.
        hop: hop length, in samples.

    Example:
        >>> frames(np.arange(6.0), 3, 2).tolist()
        [[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]]
    """
    return np.lib.stride_tricks.sliding_window_view(wave, size)[::hop]


def power(windowed: Float[np.ndarray, "t n"], size: int | None = None) -> Float[np.ndarray, "t bins"]:
    """Power spectrum |FFT|² of each frame.

    Args:
        windowed: windowed frames.
        size: FFT size; None for the frame length.
    """
    return np.abs(np.fft.rfft(windowed, size)) ** 2


def mel_filters(
    size: int, bands: int, rate: int, low: float = 0.0, high: float | None = None, scale: Scale = "htk"
) -> Float[np.ndarray, "bins bands"]:
    """Mel filter bank: `power(…) @ mel_filters(…)` is a mel spectrogram.

    Formula: mel(f) = 2595 log₁₀(1 + f / 700); Slaney: 3 f / 200 up to 1 kHz, then 15 + 27 log(f / 1000) / log 6.4

    Args:
        size: FFT size.
        bands: number of triangular filters, evenly spaced on the mel scale.
        rate: sample rate, in Hz.
        low: lower edge of the first filter, in Hz.
        high: upper edge of the last filter, in Hz; None for half the sample rate.
        scale: "htk"; "slaney", with filters of unit area; or "kaldi", the HTK scale with filters that are triangular
            in mel instead of Hz.

    Example:
        >>> mel_filters(8, 2, 8_000).round(2).tolist()
        [[0.0, 0.0], [0.68, 0.32], [0.0, 0.91], [0.0, 0.45], [0.0, 0.0]]
    """
    if scale == "slaney":
        step = 27 / np.log(6.4)

        def mel(hertz):
            return np.where(hertz < 1_000, 3 * hertz / 200, 15 + step * np.log(np.maximum(hertz, 1_000) / 1_000))

        def inverse(m):
            return np.where(m < 15, 200 * m / 3, 1_000 * np.exp((m - 15) / step))
    else:

        def mel(hertz):
            return 2595 * np.log10(1 + hertz / 700)

        def inverse(m):
            return 700 * (10 ** (m / 2595) - 1)

    first, last = mel(np.array([low, rate / 2 if high is None else high]))
    edges, frequencies = np.linspace(first, last, bands + 2), np.fft.rfftfreq(size, 1 / rate)
    edges, frequencies = (edges, mel(frequencies)) if scale == "kaldi" else (inverse(edges), frequencies)
    rising = (frequencies[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies[:, None]) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0, np.minimum(rising, falling))
    return triangles * 2 / (edges[2:] - edges[:-2]) if scale == "slaney" else triangles
