"""data2vec audio: configuration and tensor names of the waveform encoder. That on text is in `bert`."""

import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from mmkd_jax.child_process import DEFAULT, Limits
from mmkd_jax.data import sounds
from mmkd_jax.models.data2vec import Data2VecAudio
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.pretrained import wav2vec2
from mmkd_jax.pretrained.attributes import replaced, written
from mmkd_jax.pretrained.mapping import DENSE, Table, inside

TABLE: Table = {
    **{ours: row for ours, row in wav2vec2.WAV2VEC2.items() if ours != "positions"},
    "positions_{i}": ("encoder.pos_conv_embed.layers.{i}.conv", DENSE),  # the kernel is transposed, as a matrix is
}

# our attribute: (key in config.json, default)
_DATA2VEC = {ours: row for ours, row in wav2vec2.FIELDS["wav2vec2"].items() if ours != "pre_norm"} | {
    "position_layers": ("num_conv_pos_embeddings", 5),
    "reach": ("conv_pos_kernel_size", 19),
}
FIELDS = {"data2vec-audio": _DATA2VEC}

ignored = wav2vec2.ignored


def table(kind: str, module: Encoders) -> Table:
    """Return the tensor table of a `model_type`."""
    del kind, module
    return inside("encoders_audio", TABLE)


def prefix(kind: str) -> str:
    """Return the prefix of tensor names in checkpoints of models with a head."""
    del kind
    return "data2vec_audio."


def build(config: Mapping[str, Any], names: Collection[str], processor: Any) -> Encoders:
    """Build the encoder from config.json.

    Raises:
        UserError: the configuration requests an unsupported feature.
    """
    del names, processor
    return Encoders({"audio": replaced(Data2VecAudio(), **wav2vec2.read_fields(config, _DATA2VEC))})


def describe(kind: str, module: Encoders) -> dict[str, Any]:
    """Return the config.json of an encoder."""
    encoder = module.encoders["audio"]
    fields = written(kind, encoder, _DATA2VEC, projected_norm=True, pre_norm=False, norm="layer")
    unmasked = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}  # otherwise transformers adds a mask embedding
    return {"model_type": kind, "architectures": ["Data2VecAudioModel"]} | unmasked | fields


def processor(where: pathlib.Path, config: Mapping[str, Any], limits: Limits = DEFAULT) -> sounds.Waves:
    """Build the processor from preprocessor_config.json, as that of wav2vec 2.0."""
    return wav2vec2.processor(where, {**config, "model_type": "wav2vec2"}, limits)
