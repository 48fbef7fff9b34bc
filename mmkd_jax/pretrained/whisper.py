"""Whisper encoder: configuration, tensor names and log-mel processor."""

import dataclasses
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mmkd_jax.child_process import DEFAULT, Limits
from mmkd_jax.data import sounds, spectrogram
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.models.whisper import Whisper
from mmkd_jax.pretrained.attributes import field, read, replaced, written
from mmkd_jax.pretrained.folder import read_processor
from mmkd_jax.pretrained.mapping import DENSE, NORM, SAME, Table, inside

OURS, THEIRS = "transformer/layer_{i}", "encoder.layers.{i}"
RATE, WINDOW, HOP = 16_000, 400, 160

# the kernel of a 1D convolution is transposed, as a matrix is
TABLE: Table = {
    "": ("encoder", {"positions": ("embed_positions.weight", SAME)}),
    "conv_1": ("encoder.conv1", DENSE),
    "conv_2": ("encoder.conv2", DENSE),
    f"{OURS}/query": (f"{THEIRS}.self_attn.q_proj", DENSE),
    f"{OURS}/key": (f"{THEIRS}.self_attn.k_proj", DENSE),
    f"{OURS}/value": (f"{THEIRS}.self_attn.v_proj", DENSE),
    f"{OURS}/out": (f"{THEIRS}.self_attn.out_proj", DENSE),
    f"{OURS}/norm_attention": (f"{THEIRS}.self_attn_layer_norm", NORM),
    f"{OURS}/norm_output": (f"{THEIRS}.final_layer_norm", NORM),
    f"{OURS}/grow": (f"{THEIRS}.fc1", DENSE),
    f"{OURS}/shrink": (f"{THEIRS}.fc2", DENSE),
    "norm": ("encoder.layer_norm", NORM),
}

# our attribute: (key in config.json, default)
_WHISPER = {
    "mels": ("num_mel_bins", 80),
    "length": ("max_source_positions", 1500),
    "embed_dim": ("d_model", 384),
    "num_layers": ("encoder_layers", 4),
    "num_heads": ("encoder_attention_heads", 6),
    "mlp_dim": ("encoder_ffn_dim", 1536),
    "activation": ("activation_function", "gelu"),
    "dropout": ("dropout", 0.0),
    "attention_dropout": ("attention_dropout", 0.0),
}
FIELDS = {"whisper": _WHISPER}

# decoder and audio classification heads
ignored = (r"decoder\..*", r"proj_out\.weight", r"(projector|classifier)\..*", r"layer_weights")


def table(kind: str, module: Encoders) -> Table:
    """Return the tensor table of a `model_type`."""
    del kind, module
    return inside("encoders_audio", TABLE)


def prefix(kind: str) -> str:
    """Return the prefix of tensor names in checkpoints of models with a head."""
    return "model."


def build(config: Mapping[str, Any], names: Collection[str], processor: "LogMel") -> Encoders:
    """Build the encoder from config.json; settings of the decoder are ignored."""
    del names, processor
    return Encoders({"audio": replaced(Whisper(), **read(config, _WHISPER))})


def describe(kind: str, module: Encoders) -> dict[str, Any]:
    """Return the config.json of an encoder; its decoder has zero layers, and transformers initializes it randomly."""
    encoder = module.encoders["audio"]
    fields = written(kind, encoder, _WHISPER)
    return {"model_type": kind, "architectures": ["WhisperModel"], "decoder_layers": 0} | fields


@dataclasses.dataclass(frozen=True)
class LogMel:
    """Log-mel spectrograms of recordings padded with silence.

    Formula: y = log₁₀ max(mel-weighted |FFT|², 1e-10); (max(y, max y − 8) + 4) / 4

    Attributes:
        mels: number of mel bands.
        frames: number of frames of every recording, at 100 frames per second.
        files: processor files of the folder, for saving.
        modality: name of the batch column.
    """

    mels: int
    frames: int
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
            recordings: paths of .wav files, or arrays [n] of floats in −1 … 1 or of int16.
            rate: sample rate of the arrays, Hz.
            resample: resample recordings to 16 kHz; if False, another rate is an error.
            channels: what to do with several channels, as in `data.sounds.waveforms`.
            cut: truncate longer recordings with a warning; if False, they are an error.
            warn: warn about the number of truncated recordings.
            rows: number of each recording in messages; None counts them.

        Raises:
            UserError: an input is not a recording, has another rate, or is too long with cut=False.
        """
        waves = sounds.waveforms(recordings, RATE, rate, resample, channels, self.modality, rows)
        longest = HOP * self.frames
        waves = sounds.bounded(waves, RATE, 1, longest, cut, self.modality, warn, rows, recordings)
        levels = np.zeros((len(waves), self.frames, self.mels), np.float32)
        window, filters = spectrogram.hann(WINDOW), spectrogram.mel_filters(WINDOW, self.mels, RATE, scale="slaney")
        for i, wave in enumerate(waves):
            padded = np.pad(np.pad(wave, (0, longest - len(wave))), WINDOW // 2, "reflect")
            frames = spectrogram.frames(padded, WINDOW, HOP)[: self.frames] * window
            level = np.log10(np.maximum(spectrogram.power(frames) @ filters, 1e-10))
            levels[i] = (np.maximum(level, level.max() - 8) + 4) / 4
        return {self.modality: levels}

    def row_spec(self, options: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
        """Return shape and dtype of one row of the column, for `data.process`; no option of a call changes them."""
        del options
        return {self.modality: jax.ShapeDtypeStruct((self.frames, self.mels), np.dtype(np.float32))}


def processor(folder: pathlib.Path, config: Mapping[str, Any], limits: Limits = DEFAULT) -> LogMel:
    """Build the log-mel processor for the input size in config.json.

    Raises:
        UserError: preprocessor_config.json requests spectra that do not fit the encoder.
    """
    del limits
    mels, length = (field(config, *_WHISPER[k]) for k in ("mels", "length"))
    expected = {"feature_size": mels, "chunk_length": 2 * length * HOP / RATE, "sampling_rate": RATE, "n_fft": WINDOW}
    expected |= {"hop_length": HOP, "padding_value": 0.0, "dither": 0.0}
    return LogMel(mels, 2 * length, read_processor(folder, expected, "Whisper")[1])
