"""Mel spectra of recordings, on the host, in double precision: windows, frames, filters."""

from typing import Literal

import numpy as np
from jaxtyping import Float

Scale = Literal["htk", "slaney", "kaldi"]


def hann(size: int) -> Float[np.ndarray, " n"]:
    """The periodic Hann window, as for a Fourier transform; `numpy.hanning` is the symmetric one.

    Formula: sin²(π i / n)
    """
    return np.hanning(size + 1)[:-1]


def frames(wave: Float[np.ndarray, " n"], size: int, hop: int) -> Float[np.ndarray, "t size"]:
    """Stretches of a waveform, as views; what is left at its end is in none.

    Args:
        wave: samples.
        size: of a frame, in samples.
        hop: from one frame to the next, in samples.

    Example:
        >>> frames(np.arange(6.0), 3, 2).tolist()
        [[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]]
    """
    return np.lib.stride_tricks.sliding_window_view(wave, size)[::hop]


def power(windowed: Float[np.ndarray, "t n"], size: int | None = None) -> Float[np.ndarray, "t bins"]:
    """|FFT|² of each frame.

    Args:
        windowed: frames.
        size: of the transform; that of the frames, if None.
    """
    return np.abs(np.fft.rfft(windowed, size)) ** 2


def mel_filters(
    size: int, bands: int, rate: int, low: float = 0.0, high: float | None = None, scale: Scale = "htk"
) -> Float[np.ndarray, "bins bands"]:
    """Triangles that are evenly spaced on a mel scale: `power(…) @ mel_filters(…)` are a spectrum's mel bands.

    Formula: mel(f) = 2595 log₁₀(1 + f / 700); Slaney's is 3 f / 200 up to 1 kHz, then 15 + 27 log(f / 1000) / log 6.4

    Args:
        size: of the transform.
        bands: how many triangles.
        rate: samples a second.
        low: where the first begins, Hz.
        high: where the last ends, Hz; half the rate, if None.
        scale: "htk", or "slaney", whose triangles have an area of one; their sides are straight in Hz. "kaldi" is that
            of HTK with sides that are straight in mel.

    Example:
        >>> mel_filters(8, 2, 8_000).round(2).tolist()
        [[0.0, 0.0], [0.68, 0.32], [0.0, 0.91], [0.0, 0.45], [0.0, 0.0]]
    """
    if scale == "slaney":
        step = 27 / np.log(6.4)

        def mel(hertz):
            return np.where(hertz < 1_000, 3 * hertz / 200, 15 + step * np.log(np.maximum(hertz, 1_000) / 1_000))

        def back(m):
            return np.where(m < 15, 200 * m / 3, 1_000 * np.exp((m - 15) / step))
    else:

        def mel(hertz):
            return 2595 * np.log10(1 + hertz / 700)

        def back(m):
            return 700 * (10 ** (m / 2595) - 1)

    first, last = mel(np.array([low, rate / 2 if high is None else high]))
    edges, where = np.linspace(first, last, bands + 2), np.fft.rfftfreq(size, 1 / rate)
    edges, where = (edges, mel(where)) if scale == "kaldi" else (back(edges), where)
    rising = (where[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - where[:, None]) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0, np.minimum(rising, falling))
    return triangles * 2 / (edges[2:] - edges[:-2]) if scale == "slaney" else triangles
