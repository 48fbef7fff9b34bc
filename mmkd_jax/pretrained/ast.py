"""Audio Spectrogram Transformer (AST): configuration, tensor names and log-mel processor."""

import dataclasses
import math
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mmkd_jax.child_process import DEFAULT, Limits
from mmkd_jax.data import sounds, spectrogram
from mmkd_jax.data.processor_file import FILE
from mmkd_jax.errors import UserError
from mmkd_jax.models.ast import Ast
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.pretrained.attributes import field, read, replaced, written
from mmkd_jax.pretrained.folder import read_processor
from mmkd_jax.pretrained.mapping import Table, inside
from mmkd_jax.pretrained.vit import VIT

RATE, WINDOW, HOP, TRANSFORM = 16_000, 400, 160, 512

# our attribute: (key in config.json, default)
_AST = {
    "embed_dim": ("hidden_size", 768),
    "num_layers": ("num_hidden_layers", 12),
    "num_heads": ("num_attention_heads", 12),
    "mlp_dim": ("intermediate_size", 3072),
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
    """Return the tensor table of a `model_type`."""
    del kind, module
    return inside("encoders_audio", VIT)


def prefix(kind: str) -> str:
    """Return the prefix of tensor names in checkpoints of models with a head."""
    return "audio_spectrogram_transformer."


def build(config: Mapping[str, Any], names: Collection[str], processor: "FilterBank") -> Encoders:
    """Build the encoder from config.json."""
    del names, processor
    pairs = {ours: tuple(field(config, *side) for side in sides) for ours, sides in _PAIRS.items()}
    return Encoders({"audio": replaced(Ast(), **read(config, _AST), **pairs)})


def describe(kind: str, module: Encoders) -> dict[str, Any]:
    """Return the config.json of an encoder."""
    encoder = module.encoders["audio"]
    fields = written(kind, encoder, _AST, num_prefix_tokens=2)
    for ours, sides in _PAIRS.items():
        fields |= {theirs: x for (theirs, _), x in zip(sides, getattr(encoder, ours), strict=True)}
    return {"model_type": kind, "architectures": ["ASTModel"]} | fields


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


def processor(folder: pathlib.Path, config: Mapping[str, Any], limits: Limits = DEFAULT) -> FilterBank:
    """Build the log-mel processor for the input size in config.json and the normalization in preprocessor_config.json.

    Raises:
        UserError: preprocessor_config.json requests spectra that do not fit the encoder.
    """
    del limits
    mels, frames = (field(config, *side) for side in _PAIRS["size"])
    expected = {"num_mel_bins": mels, "max_length": frames, "sampling_rate": RATE, "padding_value": 0.0}
    fields, files = read_processor(folder, expected, "AST")
    scale: dict[str, Any] = {k: fields[k] for k in ("mean", "std") if k in fields}
    if not fields.get("do_normalize", True):
        scale = {"mean": 0.0, "std": 0.5}
    for name, x in scale.items():
        if isinstance(x, bool) or not isinstance(x, int | float) or not math.isfinite(x) or (name == "std" and x <= 0):
            raise UserError(f"{folder / FILE}: {name} is {x!r}; expected a finite number{' above 0' * (name == 'std')}")
    return FilterBank(mels, frames, **scale, files=files)
