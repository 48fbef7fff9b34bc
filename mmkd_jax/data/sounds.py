"""Recordings for pretrained audio encoders, on the host: one channel, in −1 … 1, at the rate they were trained on."""

import dataclasses
import os
import warnings
from collections.abc import Mapping, Sequence
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
) -> list[Float[np.ndarray, " _"]]:
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


def bounded(
    waves: Sequence[Float[np.ndarray, " _"]],
    rate: int,
    least: int = 1,
    most: int | None = None,
    cut: bool = True,
    modality: str = "audio",
) -> list[Float[np.ndarray, " _"]]:
    """Waveforms that are neither too short nor too long for a model.

    Args:
        waves: one each recording.
        rate: samples a second, for messages.
        least: samples that a recording must have.
        most: samples that the model takes; any number, if None.
        cut: cut longer recordings, with a warning; else refuse them.
        modality: for messages.

    Raises:
        UserError: a recording is too short, or longer and not to be cut.

    Example:
        >>> [x.tolist() for x in bounded([np.float32([1, 2])], 16_000, most=2)]
        [[1.0, 2.0]]
    """
    if short := [i for i, x in enumerate(waves) if len(x) < least]:
        n = len(waves[short[0]])
        raise UserError(f"{modality} {short[0]}: {n} samples are too few; this model takes at least {least}")
    if most is not None and (long := [i for i, x in enumerate(waves) if len(x) > most]):
        said = f"{len(long)} of {len(waves)} recordings are longer than {most / rate:g} s, the first is {long[0]}"
        if not cut:
            raise UserError(f"{modality}: {said}: cut them (cut=True), or take them apart")
        warnings.warn(f"{modality}: {said}: they are cut", stacklevel=3)
    return [x[:most] for x in waves]


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
    if rate != int(rate):
        raise UserError(f"{name}: rate={rate}; expected a whole number of samples a second")
    if rate != wanted:
        if not resample:
            raise UserError(f"{name}: {rate} samples a second; the model takes {wanted}: resample=True resamples it")
        x = scipy.signal.resample_poly(x, *(np.array([wanted, int(rate)]) // np.gcd(wanted, int(rate))))
    return x.astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Waves:
    """Recordings to `audio` [n, samples] and `audio.mask`, padded with zeros, as wav2vec 2.0 was trained on them.

    Attributes:
        rate: samples a second.
        normalise: whether each recording gets zero mean and unit variance.
        modality: the batch's column.
        files: those of the folder, to be saved again.
    """

    rate: int = 16_000
    normalise: bool = True
    modality: str = "audio"
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict, repr=False)

    def __call__(
        self,
        recordings: Sequence[Any] | np.ndarray,
        rate: int | None = None,
        *,
        resample: bool = False,
        length: int | None = None,
        cut: bool = True,
    ) -> dict[str, np.ndarray]:
        """The columns of a batch.

        Args:
            recordings: paths of .wav files, or arrays [n] of floats in −1 … 1 or of int16.
            rate: samples a second of the arrays.
            resample: whether recordings of another rate are resampled.
            length: samples of every row, after resampling; those of the longest, if None.
            cut: cut longer recordings, with a warning; else refuse them.

        Raises:
            UserError: what `waveforms` refuses, an empty recording, or a longer one that is not to be cut.
        """
        heard = waveforms(recordings, self.rate, rate, resample, self.modality)
        heard = bounded(heard, self.rate, most=length, cut=cut, modality=self.modality)
        width = max((len(x) for x in heard), default=0) if length is None else length
        waves, mask = np.zeros((len(heard), width), np.float32), np.zeros((len(heard), width), bool)
        for i, x in enumerate(heard):
            waves[i, : len(x)] = (x - x.mean()) / np.sqrt(x.var() + 1e-7) if self.normalise else x
            mask[i, : len(x)] = True
        return {self.modality: waves, f"{self.modality}.mask": mask}
