"""Resemblyzer's speaker encoder: configuration, tensors and mel spectra; no `model_type` of transformers."""

import dataclasses
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mmkd_jax.data import sounds, spectrogram
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.models.voice import VoiceLSTM
from mmkd_jax.pretrained.mapping import DENSE, SAME, TRANSPOSED, Table, inside

RATE, WINDOW, HOP = 16_000, 400, 160
STEP, COVERED, LOUDNESS = 77, 0.75, 10 ** (-30 / 20)
"""Frames between windows, what share of its last window a recording must fill, and −30 dBFS."""

TABLE: Table = {
    "inward_{i}/kernel": ("lstm.weight_ih_l{i}", {"": ("", TRANSPOSED)}),
    "inward_{i}/bias": ("lstm.bias_ih_l{i}", {"": ("", SAME)}),
    "recurrent_{i}": ("lstm.weight_hh_l{i}", {"": ("", TRANSPOSED)}),
    "bias_{i}": ("lstm.bias_hh_l{i}", {"": ("", SAME)}),
    "linear": ("linear", DENSE),
}
_VOICE = {
    "mels": ("mel_n_channels", 40),
    "width": ("model_hidden_size", 256),
    "layers": ("model_num_layers", 3),
    "embedding": ("model_embedding_size", 256),
    "window": ("partials_n_frames", 160),
}
FIELDS = {"voice-encoder": _VOICE}

# of the loss that it was trained with
ignored = (r"similarity_(weight|bias)",)


def table(kind: str, module: Encoders) -> Table:
    """The table of tensors of a `model_type`."""
    del kind, module
    return inside("encoders_audio", TABLE)


def prefix(kind: str) -> str:
    """Names of tensors begin with nothing more."""
    return ""


def build(config: Mapping[str, Any], names: Collection[str], processor: "Windows") -> Encoders:
    """The encoder of a config.json."""
    del names, processor
    return Encoders({"audio": VoiceLSTM(**{ours: config.get(*row) for ours, row in _VOICE.items()})})


def describe(kind: str, module: Encoders) -> dict[str, Any]:
    """The config.json of an encoder."""
    encoder = module.encoders["audio"]
    return {"model_type": kind} | {theirs: getattr(encoder, ours) for ours, (theirs, _) in _VOICE.items()}


@dataclasses.dataclass(frozen=True)
class Windows:
    """Mel spectra, not their logarithms, of windows that overlap by half: what `embed_utterance` of Resemblyzer sees.

    Quiet recordings are made louder, to −30 dBFS. Silence is not taken out, as `preprocess_wav` of Resemblyzer does.

    Attributes:
        mels: bands of a frame.
        window: frames of a window, at 100 a second.
    """

    mels: int = 40
    window: int = 160

    def __call__(
        self, recordings: Sequence[Any] | np.ndarray, rate: int | None = None, *, resample: bool = False
    ) -> dict[str, np.ndarray]:
        """Windows one after the other, `audio` [n, t, mels], and which of the frames are there, `audio.mask` [n, t].

        Args:
            recordings: paths of .wav files, or arrays [n] of floats in −1 … 1 or of int16; of any length.
            rate: samples a second of the arrays.
            resample: whether recordings of another rate than 16 kHz are resampled; they are refused otherwise.

        Raises:
            UserError: what is no such recording, is empty or has another rate.
        """
        waves = sounds.bounded(sounds.waveforms(recordings, RATE, rate, resample), RATE)
        own = [self._windows(wave.astype(np.float64)) for wave in waves]
        t = max(map(len, own), default=self.window)
        made, mask = np.zeros((len(own), t, self.mels), np.float32), np.zeros((len(own), t), bool)
        for i, x in enumerate(own):
            made[i, : len(x)], mask[i, : len(x)] = x, True
        return {"audio": made, "audio.mask": mask}

    def _windows(self, wave):
        wave = wave * max(1, LOUDNESS / max(np.sqrt(np.mean(wave**2)), np.finfo(np.float32).tiny))
        count, span = -(-(len(wave) + 1) // HOP), self.window * HOP
        starts = list(range(0, max(1, count - self.window + STEP + 1), STEP))
        if len(starts) > 1 and len(wave) - starts[-1] * HOP < COVERED * span:
            starts.pop()
        seen = mel(np.pad(wave, (0, max(0, starts[-1] * HOP + span - len(wave)))), self.mels)
        return np.concatenate([seen[s : s + self.window] for s in starts])


def mel(wave: Float[np.ndarray, " n"], bands: int = 40) -> Float[np.ndarray, "t bands"]:
    """Mel-weighted |FFT|² at 100 frames a second, with zeros around the recording.

    Args:
        wave: at 16 kHz.
        bands: of a frame.

    Example:
        >>> mel(np.zeros(1_600)).shape
        (11, 40)
    """
    seen = spectrogram.frames(np.pad(wave, WINDOW // 2), WINDOW, HOP) * spectrogram.hann(WINDOW)
    return spectrogram.power(seen) @ spectrogram.mel_filters(WINDOW, bands, RATE, scale="slaney")


def processor(folder: pathlib.Path, config: Mapping[str, Any]) -> Windows:
    """Windows of the size that config.json says."""
    del folder
    return Windows(*(config.get(*_VOICE[k]) for k in ("mels", "window")))
