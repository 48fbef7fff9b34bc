"""AST: configuration and tensors of the Audio Spectrogram Transformer, and its log-mel spectra."""

import dataclasses
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from mmkd_jax.data import sounds, spectrogram
from mmkd_jax.models.ast import Ast
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.pretrained.folder import read_processor
from mmkd_jax.pretrained.mapping import Table, inside
from mmkd_jax.pretrained.vit import VIT

RATE, WINDOW, HOP, TRANSFORM = 16_000, 400, 160, 512

# ours: what config.json calls it, and what it is where it is not there
_AST = {
    "width": ("hidden_size", 768),
    "layers": ("num_hidden_layers", 12),
    "heads": ("num_attention_heads", 12),
    "inner": ("intermediate_size", 3072),
    "activation": ("hidden_act", "gelu"),
    "eps": ("layer_norm_eps", 1e-12),
    "bias": ("qkv_bias", True),
    "dropout": ("hidden_dropout_prob", 0.0),
    "attention_dropout": ("attention_probs_dropout_prob", 0.0),
}
FIELDS = {"audio-spectrogram-transformer": _AST}
_PAIRS = {
    "size": (("num_mel_bins", 128), ("max_length", 1024)),
    "patch": (("patch_size", 16), ("patch_size", 16)),
    "stride": (("frequency_stride", 10), ("time_stride", 10)),
}

ignored = (r"classifier\..*",)


def table(kind: str, module: Encoders) -> Table:
    """The table of tensors of a `model_type`."""
    del kind, module
    return inside("encoders_audio", VIT)


def prefix(kind: str) -> str:
    """What the names of tensors begin with in the file of a model with a head."""
    return "audio_spectrogram_transformer."


def build(config: Mapping[str, Any], names: Collection[str], processor: "FilterBank") -> Encoders:
    """The encoder of a config.json."""
    del names, processor
    fields = {ours: config.get(theirs, default) for ours, (theirs, default) in _AST.items()}
    fields |= {ours: tuple(config.get(*side) for side in sides) for ours, sides in _PAIRS.items()}
    return Encoders({"audio": Ast(**fields)})


def describe(kind: str, module: Encoders) -> dict[str, Any]:
    """The config.json of an encoder."""
    encoder = module.encoders["audio"]
    fields = {theirs: getattr(encoder, ours) for ours, (theirs, _) in _AST.items()}
    for ours, sides in _PAIRS.items():
        fields |= {theirs: x for (theirs, _), x in zip(sides, getattr(encoder, ours), strict=True)}
    return {"model_type": kind, "architectures": ["ASTModel"]} | fields


@dataclasses.dataclass(frozen=True)
class FilterBank:
    """Log-mel spectra of recordings as Kaldi makes them, cut or filled up with zeros and then normalised.

    Formula: x[i] − .97 x[i−1] of a frame without its mean, x[−1] = x[0]; (log(mel-weighted |FFT|²) − mean) / 2 std

    Attributes:
        mels: bands of a frame.
        frames: of every recording, at 100 a second.
        mean: of the levels that it was trained on; that of AudioSet.
        std: standard deviation of them.
        files: those of the folder, to be saved again.
    """

    mels: int
    frames: int
    mean: float = -4.2677393
    std: float = 4.5689974
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict, repr=False)

    def __call__(
        self,
        recordings: Sequence[Any] | np.ndarray,
        rate: int | None = None,
        *,
        resample: bool = False,
        cut: bool = True,
    ) -> dict[str, np.ndarray]:
        """The column of a batch, `audio` [n, frames, mels].

        Args:
            recordings: paths of .wav files, or arrays [n] of floats in −1 … 1 or of int16, of 25 ms or more.
            rate: samples a second of the arrays.
            resample: whether recordings of another rate than 16 kHz are resampled; they are refused otherwise.
            cut: cut longer recordings, with a warning; else refuse them.

        Raises:
            UserError: what is no such recording, has another rate, is shorter than a frame, or longer and not to be
                cut.
        """
        heard, longest = sounds.waveforms(recordings, RATE, rate, resample), WINDOW + HOP * self.frames - 1
        waves = sounds.bounded(heard, RATE, WINDOW, longest, cut)
        made = np.zeros((len(waves), self.frames, self.mels))
        filters = spectrogram.mel_filters(TRANSFORM, self.mels, RATE, low=20.0, scale="kaldi")
        for i, wave in enumerate(waves):
            seen = spectrogram.frames(wave.astype(np.float64), WINDOW, HOP)
            seen = seen - seen.mean(1, keepdims=True)
            seen = seen - 0.97 * np.concatenate([seen[:, :1], seen[:, :-1]], 1)
            energy = spectrogram.power(seen * np.hanning(WINDOW), TRANSFORM) @ filters
            made[i, : len(seen)] = np.log(np.maximum(energy, np.finfo(np.float32).eps))
        return {"audio": ((made - self.mean) / (2 * self.std)).astype(np.float32)}


def processor(folder: pathlib.Path, config: Mapping[str, Any]) -> FilterBank:
    """Spectra of the size that config.json says, normalised as preprocessor_config.json says.

    Raises:
        UserError: preprocessor_config.json asks for spectra that the encoder does not take.
    """
    mels, frames = (config.get(*side) for side in _PAIRS["size"])
    expected = {"num_mel_bins": mels, "max_length": frames, "sampling_rate": RATE, "padding_value": 0.0}
    said, files = read_processor(folder, expected)
    scale = {k: said[k] for k in ("mean", "std") if k in said}
    if not said.get("do_normalize", True):
        scale = {"mean": 0.0, "std": 0.5}
    return FilterBank(mels, frames, **scale, files=files)
