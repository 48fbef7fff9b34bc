"""WavLM: configuration and tensor names of the waveform encoder."""

import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from mmkd_jax.child_process import DEFAULT, Limits
from mmkd_jax.data import sounds
from mmkd_jax.errors import UserError
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.models.wavlm import WavLM
from mmkd_jax.pretrained import wav2vec2
from mmkd_jax.pretrained.attributes import replaced, written
from mmkd_jax.pretrained.mapping import DENSE, EMBED, Table, Turn, inside
from mmkd_jax.pretrained.wav2vec2 import NORMS, OURS, THEIRS

_EACH_HEAD = Turn(lambda x: x[0, :, 0, 0], lambda x: x[None, :, None, None])

TABLE: Table = wav2vec2.WAV2VEC2 | {
    "relative": ("encoder.layers.0.attention.rel_attn_embed", EMBED),
    f"{OURS}/gate": (f"{THEIRS}.attention.gru_rel_pos_linear", DENSE),
    OURS: (THEIRS, {"gate_scale": ("attention.gru_rel_pos_const", _EACH_HEAD)}),
}

# our attribute: (key in config.json, default)
_WAVLM = wav2vec2.FIELDS["wav2vec2"] | {
    "buckets": ("num_buckets", 320),
    "bucket_reach": ("max_bucket_distance", 800),
}
FIELDS = {"wavlm": _WAVLM}

ignored = wav2vec2.ignored


def table(kind: str, module: Encoders) -> Table:
    """Return the tensor table of a `model_type`."""
    del kind, module
    return inside("encoders_audio", TABLE)


def prefix(kind: str) -> str:
    """Return the prefix of tensor names in checkpoints of models with a head."""
    return f"{kind}."


def build(config: Mapping[str, Any], names: Collection[str], processor: Any) -> Encoders:
    """Build the encoder from config.json.

    Raises:
        UserError: the configuration requests an unsupported feature.
    """
    del names, processor
    fields = wav2vec2.read_fields(config, _WAVLM)
    buckets, reach = fields["buckets"], fields["bucket_reach"]
    if buckets < 4 or reach <= buckets // 4:
        sizes = f"num_buckets={buckets} and max_bucket_distance={reach}"
        raise UserError(f"config.json has {sizes}; expected at least 4, and a distance beyond a quarter of them")
    return Encoders({"audio": replaced(WavLM(), **fields, norm=wav2vec2.read_norm(config))})


def describe(kind: str, module: Encoders) -> dict[str, Any]:
    """Return the config.json of an encoder."""
    encoder = module.encoders["audio"]
    fields = written(kind, encoder, _WAVLM, projected_norm=True)
    fields["feat_extract_norm"] = {ours: theirs for theirs, ours in NORMS.items()}[encoder.norm]
    unmasked = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}  # otherwise transformers adds a mask embedding
    return {"model_type": kind, "architectures": ["WavLMModel"]} | unmasked | fields


def processor(where: pathlib.Path, config: Mapping[str, Any], limits: Limits = DEFAULT) -> sounds.Waves:
    """Build the processor from preprocessor_config.json, as that of wav2vec 2.0."""
    return wav2vec2.processor(where, {**config, "model_type": "wav2vec2"}, limits)
