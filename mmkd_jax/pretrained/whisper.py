"""Whisper encoder: configuration, tensor names and log-mel processor."""

import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from mmkd_jax.child_process import DEFAULT, Limits
from mmkd_jax.data.whisper_spectrogram import HOP, RATE, WINDOW, LogMel
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.models.whisper import Whisper
from mmkd_jax.pretrained.attributes import field, read, replaced, written
from mmkd_jax.pretrained.folder import read_processor
from mmkd_jax.pretrained.mapping import DENSE, NORM, SAME, Table, inside

OURS, THEIRS = "transformer/layer_{i}", "encoder.layers.{i}"

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


def build(config: Mapping[str, Any], names: Collection[str], processor: LogMel) -> Encoders:
    """Build the encoder from config.json; settings of the decoder are ignored."""
    del names, processor
    return Encoders({"audio": replaced(Whisper(), **read(config, _WHISPER))})


def describe(kind: str, module: Encoders) -> dict[str, Any]:
    """Return the config.json of an encoder; its decoder has zero layers, and transformers initializes it randomly."""
    encoder = module.encoders["audio"]
    fields = written(kind, encoder, _WHISPER)
    return {"model_type": kind, "architectures": ["WhisperModel"], "decoder_layers": 0} | fields


def processor(folder: pathlib.Path, config: Mapping[str, Any], limits: Limits = DEFAULT) -> LogMel:
    """Build the log-mel processor for the input size in config.json.

    Raises:
        UserError: preprocessor_config.json requests spectra that do not fit the encoder.
    """
    del limits
    mels, length = (field(config, *_WHISPER[k]) for k in ("mels", "length"))
    expected = {"feature_size": mels, "chunk_length": 2 * length * HOP / RATE, "sampling_rate": RATE, "n_fft": WINDOW}
    expected |= {"hop_length": HOP, "padding_value": 0.0, "dither": 0.0}
    return LogMel(mels, 2 * length, read_processor(folder, expected)[1])
