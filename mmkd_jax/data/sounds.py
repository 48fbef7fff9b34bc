"""Audio preprocessing on the host for pretrained encoders: mono waveforms in −1 … 1 at the model's sample rate."""

import dataclasses
import io
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
import scipy.signal
from jaxtyping import Float

from mmkd_jax import foreign_files
from mmkd_jax.data import wav_file
from mmkd_jax.errors import UserError, shown

Channels = Literal["mean"] | int | None
_LOUDEST = 8.0
"""Floats beyond this were never scaled to −1 … 1."""
_MOST_BYTES = 2**29
"""Memory beyond the size of its file that a recording may need as floats."""
_BLOCK = 2**20
"""Frames of a file that are decoded at a time, so that only one channel is ever in memory."""


def waveforms(
    recordings: Sequence[Any] | np.ndarray,
    target_rate: int,
    rate: int | None = None,
    resample: bool = False,
    channels: Channels = None,
    modality: str = "audio",
    rows: Sequence[int] | None = None,
) -> list[Float[np.ndarray, " _"]]:
    """Return recordings as float32 waveforms at a target sample rate.

    Args:
        recordings: paths of .wav files (PCM with 8, 16, 24 or 32 bits, or floats), or arrays [n] of floats in −1 … 1 or
            of int16; with `channels`, also [n, c].
        target_rate: sample rate of the result, in Hz.
        rate: sample rate of the arrays, in Hz; files contain their own.
        resample: resample recordings with a different rate; otherwise they raise an error.
        channels: "mean" averages the channels of a recording, as transformers does; an index selects one; with None,
            several channels raise an error.
        modality: name used in messages.
        rows: number of each recording in messages; None counts them.

    Raises:
        UserError: a single recording instead of a sequence, several channels, an unsupported type, a missing rate, a
            rate other than the target without `resample`, non-finite values, floats beyond ±8, or a file that is cut
            off, has another encoding, or is no .wav file.

    Example:
        >>> waveforms([np.zeros(8, np.int16)], 16_000, rate=8_000, resample=True)[0].shape
        (16,)
    """
    if isinstance(recordings, str | os.PathLike) or (isinstance(recordings, np.ndarray) and recordings.ndim < 2):
        raise UserError(f"{modality}: expected a sequence of recordings, got a single one: put it in a list")
    _check_rate(f"{modality}: target_rate", target_rate)
    named = zip(range(len(recordings)) if rows is None else rows, recordings, strict=True)
    return [waveform(f"{modality} {i}", x, target_rate, rate, resample, channels) for i, x in named]


def bounded(
    waves: Sequence[Float[np.ndarray, " _"]],
    rate: int,
    least: int = 1,
    most: int | None = None,
    cut: bool = True,
    modality: str = "audio",
    warn: bool = True,
    rows: Sequence[int] | None = None,
    recordings: Sequence[Any] | np.ndarray | None = None,
) -> list[Float[np.ndarray, " _"]]:
    """Check the minimum length of waveforms, and truncate them to the maximum length.

    Args:
        waves: one waveform per recording.
        rate: sample rate in Hz, used in messages.
        least: minimum number of samples.
        most: maximum number of samples; None for no limit.
        cut: truncate longer recordings with a warning; if False, raise an error.
        modality: name used in messages.
        warn: warn about the number of truncated recordings.
        rows: number of each recording in messages; None counts them.
        recordings: the recordings that the waveforms were read from; their paths are in messages.

    Raises:
        UserError: a recording is too short, or too long with `cut=False`.

    Example:
        >>> [x.tolist() for x in bounded([np.float32([1, 2])], 16_000, most=2)]
        [[1.0, 2.0]]
    """

    def named(i):
        x = None if recordings is None else recordings[i]
        path = f", {shown(os.fspath(x), 500)}" if isinstance(x, str | os.PathLike) else ""
        return f"{i if rows is None else rows[i]}{path}"

    if short := [i for i, x in enumerate(waves) if len(x) < least]:
        n = len(waves[short[0]])
        raise UserError(f"{modality} {named(short[0])}: {n} samples are too few; this model requires at least {least}")
    if most is not None and (long := [i for i, x in enumerate(waves) if len(x) > most]):
        problem = (
            f"{len(long)} of {len(waves)} recordings are longer than {most / rate:g} s, first in row {named(long[0])}"
        )
        if not cut:
            raise UserError(f"{modality}: {problem}: truncate them (cut=True), or split them")
        if warn:
            warnings.warn(f"{modality}: {problem}: they are truncated", stacklevel=3)
    return [x[:most] for x in waves]


def waveform(
    name: str,
    x: Any,
    target_rate: int,
    rate: int | None = None,
    resample: bool = False,
    channels: Channels = None,
    remedy: str = "pass resample=True to resample",
) -> Float[np.ndarray, " _"]:
    """Return one recording as `waveforms` does.

    Args:
        name: name of the recording, used in messages.
        x: path or content of a .wav file, or array.
        target_rate: sample rate of the result, in Hz.
        rate: sample rate of an array, in Hz.
        resample: resample a recording with a different rate.
        channels: what to do with several channels.
        remedy: end of the message about a different rate.

    Raises:
        UserError: an error of `waveforms`.
    """
    if isinstance(x, str | os.PathLike):
        try:
            size = foreign_files.size_of(x)
        except UserError as error:
            raise error.within(name) from None
        name = f"{name}, {shown(os.fspath(x), 500)}"
        with open(x, "rb") as file:
            rate, x = _read(file, name, size + _MOST_BYTES, target_rate, channels)
    elif isinstance(x, bytes):
        rate, x = _read(io.BytesIO(x), name, len(x) + _MOST_BYTES, target_rate, channels)
    elif isinstance(x, tuple):
        raise UserError(f"{name}: expected a path or an array of samples, got a tuple: pass the rate as rate=…")
    x = np.asarray(x)
    if x.dtype == np.int16:
        x = x.astype(np.float32) / 32_768
    if x.dtype.kind != "f":
        raise UserError(f"{name}: samples of type {x.dtype}; expected floats in −1 … 1, or int16: divide by full scale")
    x = _selection(name, x.shape, channels)(x)
    if not np.isfinite(x).all():
        raise UserError(f"{name}: contains non-finite samples: replace or remove them")
    if x.size and (largest := max(x.max(), -x.min())) > _LOUDEST:
        raise UserError(f"{name}: samples up to {largest:g}; expected floats in −1 … 1: divide them by full scale")
    if rate is None:
        raise UserError(f"{name}: sample rate missing: pass it, such as rate={target_rate}")
    _check_rate(f"{name}: rate", rate)
    if rate != target_rate:
        if not resample:
            raise UserError(f"{name}: rate is {rate} Hz; the model expects {target_rate} Hz: {remedy}")
        x = scipy.signal.resample_poly(x, *(np.array([target_rate, int(rate)]) // np.gcd(target_rate, int(rate))))
    return x.astype(np.float32, copy=False)


def _read(file, name, most, target_rate, channels):
    """Return rate and samples [n] of an open file, which may need this many bytes."""
    try:
        wav = wav_file.opened(file)
        n, rate = wav.shape[0], wav.rate
        needed = n * (5 + 4 * target_rate / rate * (rate != target_rate))  # float32, and one comparison of each
        if needed > most:
            raise UserError(f"needs {needed:,.0f} bytes as floats, far more than the file has: split it")
        select, x = _selection(name, wav.shape, channels), np.empty(n, np.float32)
        for start in range(0, n, _BLOCK):
            x[start : start + _BLOCK] = select(wav.frames(start, start + _BLOCK))
    except UserError as error:
        raise (error if str(error).startswith(name) else UserError(f"{name} {error}")) from None
    return rate, x


def _check_rate(name, rate):
    number = isinstance(rate, int | float | np.number) and not isinstance(rate, bool)
    if not number or not wav_file.RATES[0] <= rate <= wav_file.RATES[1] or rate != int(rate):
        raise UserError(f"{name}={rate!r}; expected a whole number of Hz, {wav_file.RATES[0]} … {wav_file.RATES[1]}")


def _selection(name: str, shape: Sequence[int], channels: Channels) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from samples [n] or [n, c] to one channel, [n]; `shape` is that of the recording."""
    if len(shape) == 2 and shape[1] == 1:
        return lambda x: x[:, 0]
    if len(shape) != 2 or channels is None:
        if len(shape) != 1:
            remedy = "average them with channels='mean', or select one with channels=0"
            raise UserError(f"{name}: shape {list(shape)}; expected one channel, [n]: {remedy}")
        return lambda x: x
    if 0 < shape[0] < shape[1]:
        raise UserError(f"{name}: shape {list(shape)}; expected [n, c], with fewer channels than samples: transpose it")
    if channels == "mean":
        return lambda x: x.mean(1, dtype=np.float64)
    if isinstance(channels, bool) or not isinstance(channels, int | np.integer) or not 0 <= channels < shape[1]:
        raise UserError(f"{name}: channels={channels!r}; expected 'mean', or 0 … {shape[1] - 1}")
    return lambda x: x[:, channels]


@dataclasses.dataclass(frozen=True)
class Waves:
    """wav2vec 2.0 feature extractor: recordings to zero-padded `audio` [n, samples] and `audio.mask`.

    Attributes:
        rate: sample rate, in Hz.
        normalize: normalize each recording to zero mean and unit variance.
        least: minimum number of samples, such as those of a model's first frame.
        modality: name of the batch column.
        files: the processor files of the model folder, kept for saving.
    """

    rate: int = 16_000
    normalize: bool = True
    least: int = 1
    modality: str = "audio"
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict, repr=False)

    def __post_init__(self):
        _check_rate("sampling_rate", self.rate)
        if not isinstance(self.normalize, bool):
            raise UserError(f"do_normalize={self.normalize!r}; expected true or false")

    def __call__(
        self,
        recordings: Sequence[Any] | np.ndarray,
        rate: int | None = None,
        *,
        resample: bool = False,
        channels: Channels = None,
        length: int | None = None,
        cut: bool = True,
        warn: bool = True,
        rows: Sequence[int] | None = None,
    ) -> dict[str, np.ndarray]:
        """Return the audio columns of a batch.

        Args:
            recordings: paths of .wav files, or arrays [n] of floats in −1 … 1 or of int16.
            rate: sample rate of the arrays, in Hz.
            resample: resample recordings with a different rate.
            channels: what to do with several channels, as in `waveforms`.
            length: samples per row after resampling; None for the length of the longest recording.
            cut: truncate longer recordings with a warning; if False, raise an error.
            warn: warn about the number of truncated recordings.
            rows: number of each recording in messages; None counts them.

        Raises:
            UserError: an error of `waveforms`, a recording shorter than `least`, or one longer than `length` with
                `cut=False`.
        """
        recorded = waveforms(recordings, self.rate, rate, resample, channels, self.modality, rows)
        recorded = bounded(recorded, self.rate, self.least, length, cut, self.modality, warn, rows, recordings)
        width = max((len(x) for x in recorded), default=0) if length is None else length
        waves, mask = np.zeros((len(recorded), width), np.float32), np.zeros((len(recorded), width), bool)
        for i, x in enumerate(recorded):
            waves[i, : len(x)] = (x - x.mean()) / np.sqrt(x.var() + 1e-7) if self.normalize else x
            mask[i, : len(x)] = True
        return {self.modality: waves, f"{self.modality}.mask": mask}

    def row_spec(self, options: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
        """Return shapes and dtypes of one row of the columns, for `data.process`; `options` are those of a call.

        Raises:
            UserError: without `length`, the shape depends on the longest recording.
        """
        length = fixed_length(options, self.rate, self.least, self.modality)
        types = {self.modality: np.float32, f"{self.modality}.mask": np.bool_}
        return {k: jax.ShapeDtypeStruct((length,), np.dtype(x)) for k, x in types.items()}


def fixed_length(options: Mapping[str, Any], rate: int, least: int, modality: str) -> int:
    """Return the `length` of a call's options, in samples.

    Args:
        options: options of the call.
        rate: sample rate in Hz, used in messages.
        least: minimum length.
        modality: name used in messages.

    Raises:
        UserError: it is missing, or no whole number of at least `least` samples.
    """
    length = options.get("length")
    whole = isinstance(length, int | np.integer) and not isinstance(length, bool)
    if length is None or not whole or length < least:
        expected = f"a number of samples at {rate} Hz, at least {least}, to which each row is truncated or padded"
        raise UserError(f"{modality}: length={length!r}; expected {expected}")
    return int(length)
