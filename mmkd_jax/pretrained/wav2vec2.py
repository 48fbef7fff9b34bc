"""wav2vec 2.0 and HuBERT: configurations and tensors of the audio encoders on waveforms."""

import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from mmkd_jax.data import sounds
from mmkd_jax.errors import UserError
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.models.wav2vec2 import Wav2Vec2
from mmkd_jax.pretrained import folder
from mmkd_jax.pretrained.mapping import DENSE, NORM, SAME, TRANSPOSED, Table, Turn, inside

OURS, THEIRS = "transformer/layer_{i}", "encoder.layers.{i}"
GAIN = Turn(lambda x: x[0, 0], lambda x: x[None, None])

WAV2VEC2: Table = {
    "conv_{i}": ("feature_extractor.conv_layers.{i}.conv", DENSE),
    "conv_norm_{i}": ("feature_extractor.conv_layers.{i}.layer_norm", NORM),
    "projected_norm": ("feature_projection.layer_norm", NORM),
    "projected": ("feature_projection.projection", DENSE),
    "positions": (
        "encoder.pos_conv_embed.conv",
        {
            "gain": ("parametrizations.weight.original0", GAIN),
            "kernel": ("parametrizations.weight.original1", TRANSPOSED),
            "bias": ("bias", SAME),
        },
    ),
    "norm": ("encoder.layer_norm", NORM),
    f"{OURS}/query": (f"{THEIRS}.attention.q_proj", DENSE),
    f"{OURS}/key": (f"{THEIRS}.attention.k_proj", DENSE),
    f"{OURS}/value": (f"{THEIRS}.attention.v_proj", DENSE),
    f"{OURS}/out": (f"{THEIRS}.attention.out_proj", DENSE),
    f"{OURS}/norm_attention": (f"{THEIRS}.layer_norm", NORM),
    f"{OURS}/grow": (f"{THEIRS}.feed_forward.intermediate_dense", DENSE),
    f"{OURS}/shrink": (f"{THEIRS}.feed_forward.output_dense", DENSE),
    f"{OURS}/norm_output": (f"{THEIRS}.final_layer_norm", NORM),
}

# ours: what config.json calls it, and what it is where it is not there
_FIELDS = {
    "convolutions": ("conv_dim", (512,) * 7),
    "kernels": ("conv_kernel", (10, 3, 3, 3, 3, 2, 2)),
    "strides": ("conv_stride", (5, 2, 2, 2, 2, 2, 2)),
    "conv_bias": ("conv_bias", False),
    "conv_activation": ("feat_extract_activation", "gelu"),
    "reach": ("num_conv_pos_embeddings", 128),
    "groups": ("num_conv_pos_embedding_groups", 16),
    "width": ("hidden_size", 768),
    "layers": ("num_hidden_layers", 12),
    "heads": ("num_attention_heads", 12),
    "inner": ("intermediate_size", 3072),
    "pre_norm": ("do_stable_layer_norm", False),
    "activation": ("hidden_act", "gelu"),
    "eps": ("layer_norm_eps", 1e-5),
    "feature_dropout": ("feat_proj_dropout", 0.0),
    "dropout": ("hidden_dropout", 0.1),
    "attention_dropout": ("attention_dropout", 0.1),
}
FIELDS = {"wav2vec2": _FIELDS, "hubert": _FIELDS | {"projected_norm": ("feat_proj_layer_norm", True)}}
ARCHITECTURES = {"wav2vec2": "Wav2Vec2Model", "hubert": "HubertModel"}
NORMS = {"group": "channel", "layer": "layer"}

# what pretraining masks and quantises, and heads of tasks, which stand beside the encoder
ignored = (
    r"(encoder\.)?masked_spec_embed",
    r"(quantizer|project_q|project_hid|final_proj|lm_head|projector|classifier|tdnn|objective)\..*",
    r"(layer_weights|label_embs_concat|feature_extractor\.(weight|bias))",
)


def table(kind: str, module: Encoders) -> Table:
    """The table of tensors of a `model_type`."""
    del kind, module
    return inside("encoders_audio", WAV2VEC2)


def prefix(kind: str) -> str:
    """What the names of tensors begin with in the file of a model with a head."""
    return f"{kind}."


def build(config: Mapping[str, Any], names: Collection[str], processor: Any) -> Encoders:
    """The encoder of a config.json.

    Raises:
        UserError: the configuration asks for something that the encoder does not have.
    """
    del names, processor
    kind = config["model_type"]
    for field, expected in {"add_adapter": False, "adapter_attn_dim": None, "conv_pos_batch_norm": False}.items():
        if config.get(field, expected) != expected:
            raise UserError(f"config.json has {field}={config[field]!r}; only {expected!r} is supported")
    fields = {ours: config.get(theirs, default) for ours, (theirs, default) in FIELDS[kind].items()}
    fields |= {n: tuple(fields[n]) for n in ("convolutions", "kernels", "strides")}
    norm = config.get("feat_extract_norm", "group")
    if norm not in NORMS:
        raise UserError(f"config.json has feat_extract_norm={norm!r}; expected 'group' or 'layer'")
    return Encoders({"audio": Wav2Vec2(**fields, norm=NORMS[norm])})


def describe(kind: str, module: Encoders) -> dict[str, Any]:
    """The config.json of an encoder."""
    encoder = module.encoders["audio"]
    if not encoder.projected_norm and kind == "wav2vec2":
        raise UserError("kind 'wav2vec2' does not describe an encoder with projected_norm=False")
    fields = {theirs: getattr(encoder, ours) for ours, (theirs, _) in FIELDS[kind].items()}
    fields["feat_extract_norm"] = {ours: theirs for theirs, ours in NORMS.items()}[encoder.norm]
    unmasked = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}  # or there is a vector in the place of masked frames
    return {"model_type": kind, "architectures": [ARCHITECTURES[kind]]} | unmasked | fields


def processor(where: pathlib.Path, config: Mapping[str, Any]) -> sounds.Waves:
    """What its preprocessor_config.json says; without one, what transformers' processor of this family does.

    Raises:
        UserError: the file pads with something else than zeros at the end.
    """
    del config
    said, held = folder.read_processor(where, {"padding_value": 0.0, "padding_side": "right"})
    return sounds.Waves(said.get("sampling_rate", 16_000), said.get("do_normalize", True), files=held)
