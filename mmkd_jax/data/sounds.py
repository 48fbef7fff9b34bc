"""Recordings for pretrained audio encoders, on the host: one channel, in −1 … 1, at the rate they were trained on."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.io.wavfile
import scipy.signal
from jaxtyping import Float

from mmkd_jax.errors import UserError


def waveforms(
    recordings: Sequence[Any] | np.ndarray,
    wanted: int,
    rate: int | None = None,
    resample: bool = False,
    modality: str = "audio",
) -> list[Float[np.ndarray, " n"]]:
    """Each recording as floats at the wanted rate.

    Args:
        recordings: paths of .wav files, or arrays [n] of floats in −1 … 1 or of int16.
        wanted: samples a second that come out.
        rate: samples a second of the arrays; a file says its own.
        resample: whether recordings of another rate are resampled; they are refused otherwise.
        modality: for messages.

    Raises:
        UserError: one recording in the place of several, several channels, another type, no rate, another rate than is
            wanted, or values that are not finite.

    Example:
        >>> waveforms([np.zeros(8, np.int16)], 16_000, rate=8_000, resample=True)[0].shape
        (16,)
    """
    if isinstance(recordings, str | os.PathLike) or isinstance(recordings, np.ndarray) and recordings.ndim < 2:
        raise UserError(f"{modality}: one recording in the place of several: put it in a list")
    return [_heard(f"{modality} {i}", x, wanted, rate, resample) for i, x in enumerate(recordings)]


def _heard(name, x, wanted, rate, resample):
    if isinstance(x, str | os.PathLike):
        try:
            (rate, x), name = scipy.io.wavfile.read(x), f"{name}, {os.fspath(x)}"
        except (OSError, ValueError) as error:
            raise UserError(f"{name}: cannot read {os.fspath(x)} ({error}); expected a .wav file") from error
    x = np.asarray(x)
    if x.ndim != 1:
        raise UserError(f"{name}: shape {list(x.shape)}; expected one channel, [n]: take one, or their mean")
    if x.dtype == np.int16:
        x = x.astype(np.float32) / 32_768
    if x.dtype.kind != "f":
        raise UserError(f"{name}: samples of type {x.dtype}; expected floats in −1 … 1, or int16")
    if not np.isfinite(x).all():
        raise UserError(f"{name}: a sample is not finite")
    if rate is None:
        raise UserError(f"{name}: say its samples a second, such as rate={wanted}")
    if rate != wanted:
        if not resample:
            raise UserError(f"{name}: {rate} samples a second; the model takes {wanted}: resample=True resamples it")
        x = scipy.signal.resample_poly(x, *(np.array([wanted, rate]) // np.gcd(wanted, rate)))
    return x.astype(np.float32)
