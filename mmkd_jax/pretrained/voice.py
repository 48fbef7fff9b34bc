"""Resemblyzer's speaker encoder: configuration, tensor names and mel processor; not a `model_type` of transformers."""

import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from mmkd_jax.child_process import DEFAULT, Limits
from mmkd_jax.data.voice_windows import Windows
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.models.voice import VoiceLSTM
from mmkd_jax.pretrained.attributes import field, read
from mmkd_jax.pretrained.mapping import DENSE, SAME, TRANSPOSED, Table, inside

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

# parameters of the training loss
ignored = (r"similarity_(weight|bias)",)


def table(kind: str, module: Encoders) -> Table:
    """Return the tensor table of a `model_type`."""
    del kind, module
    return inside("encoders_audio", TABLE)


def prefix(kind: str) -> str:
    """Return the prefix of tensor names: none in this family."""
    return ""


def build(config: Mapping[str, Any], names: Collection[str], processor: Windows) -> Encoders:
    """Build the encoder from config.json."""
    del names, processor
    return Encoders({"audio": VoiceLSTM(**read(config, _VOICE))})


def describe(kind: str, module: Encoders) -> dict[str, Any]:
    """Return the config.json of an encoder."""
    encoder = module.encoders["audio"]
    return {"model_type": kind} | {theirs: getattr(encoder, ours) for ours, (theirs, _) in _VOICE.items()}


def processor(folder: pathlib.Path, config: Mapping[str, Any], limits: Limits = DEFAULT) -> Windows:
    """Build the processor for the window size in config.json."""
    del folder, limits
    return Windows(*(field(config, *_VOICE[k]) for k in ("mels", "window")))
