"""Audio Spectrogram Transformer (AST): configuration, tensor names and log-mel processor."""

import math
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from mmkd_jax.child_process import DEFAULT, Limits
from mmkd_jax.data.filter_bank import RATE, FilterBank
from mmkd_jax.data.processor_file import FILE
from mmkd_jax.errors import UserError
from mmkd_jax.models.ast import Ast
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.pretrained.attributes import field, read, replaced, written
from mmkd_jax.pretrained.folder import read_processor
from mmkd_jax.pretrained.mapping import Table, inside
from mmkd_jax.pretrained.vit import VIT

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


def build(config: Mapping[str, Any], names: Collection[str], processor: FilterBank) -> Encoders:
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


def processor(folder: pathlib.Path, config: Mapping[str, Any], limits: Limits = DEFAULT) -> FilterBank:
    """Build the log-mel processor for the input size in config.json and the normalization in preprocessor_config.json.

    Raises:
        UserError: preprocessor_config.json requests spectra that do not fit the encoder.
    """
    del limits
    mels, frames = (field(config, *side) for side in _PAIRS["size"])
    expected = {"num_mel_bins": mels, "max_length": frames, "sampling_rate": RATE, "padding_value": 0.0}
    fields, files = read_processor(folder, expected)
    scale: dict[str, Any] = {k: fields[k] for k in ("mean", "std") if k in fields}
    if not fields.get("do_normalize", True):
        scale = {"mean": 0.0, "std": 0.5}
    for name, x in scale.items():
        if isinstance(x, bool) or not isinstance(x, int | float) or not math.isfinite(x) or (name == "std" and x <= 0):
            raise UserError(f"{folder / FILE}: {name} is {x!r}; expected a finite number{' above 0' * (name == 'std')}")
    return FilterBank(mels, frames, **scale, files=files)
