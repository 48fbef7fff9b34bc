"""wav2vec 2.0 and HuBERT: configurations and tensor names of waveform encoders."""

import pathlib
import reprlib
from collections.abc import Collection, Mapping
from typing import Any

from mmkd_jax.child_process import DEFAULT, Limits
from mmkd_jax.data import sounds
from mmkd_jax.data.processor_file import FILE
from mmkd_jax.errors import UserError
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.models.wav2vec2 import Wav2Vec2
from mmkd_jax.pretrained import folder
from mmkd_jax.pretrained.attributes import field, read, replaced, written
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

# our attribute: (key in config.json, default)
_FIELDS = {
    "convolutions": ("conv_dim", (512,) * 7),
    "kernels": ("conv_kernel", (10, 3, 3, 3, 3, 2, 2)),
    "strides": ("conv_stride", (5, 2, 2, 2, 2, 2, 2)),
    "conv_bias": ("conv_bias", False),
    "conv_activation": ("feat_extract_activation", "gelu"),
    "reach": ("num_conv_pos_embeddings", 128),
    "groups": ("num_conv_pos_embedding_groups", 16),
    "embed_dim": ("hidden_size", 768),
    "num_layers": ("num_hidden_layers", 12),
    "num_heads": ("num_attention_heads", 12),
    "mlp_dim": ("intermediate_size", 3072),
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

# mask embedding, quantizer, and heads of pretraining and downstream tasks
ignored = (
    r"(encoder\.)?masked_spec_embed",
    r"(quantizer|project_q|project_hid|final_proj|lm_head|projector|classifier|tdnn|objective)\..*",
    r"(layer_weights|label_embs_concat|feature_extractor\.(weight|bias))",
)


def table(kind: str, module: Encoders) -> Table:
    """Return the tensor table of a `model_type`."""
    del kind, module
    return inside("encoders_audio", WAV2VEC2)


def prefix(kind: str) -> str:
    """Return the prefix of tensor names in checkpoints of models with a head."""
    return f"{kind}."


def build(config: Mapping[str, Any], names: Collection[str], processor: Any) -> Encoders:
    """Build the encoder from config.json.

    Raises:
        UserError: the configuration requests an unsupported feature.
    """
    del names, processor
    fields = read_fields(config, FIELDS[config["model_type"]])
    return Encoders({"audio": replaced(Wav2Vec2(), **fields, norm=read_norm(config))})


def read_fields(config: Mapping[str, Any], known: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """Return the attributes of an encoder of this family or a related one.

    Args:
        config: content of config.json.
        known: our attribute -> key in config.json, and default.

    Raises:
        UserError: the configuration has an adapter, BatchNorm before the positions, or a value of another type.
    """
    for key, expected in {"add_adapter": False, "adapter_attn_dim": None, "conv_pos_batch_norm": False}.items():
        if config.get(key, expected) != expected:
            raise UserError(f"config.json has {key}={reprlib.repr(config[key])}; only {expected!r} is supported")
    fields = read(config, known)
    return fields | {n: tuple(fields[n]) for n in ("convolutions", "kernels", "strides")}


def read_norm(config: Mapping[str, Any]) -> str:
    """Return the normalization of the convolutions.

    Raises:
        UserError: it is unknown.
    """
    norm = field(config, "feat_extract_norm", "group")
    if norm not in NORMS:
        raise UserError(f"config.json has feat_extract_norm={reprlib.repr(norm)}; expected 'group' or 'layer'")
    return NORMS[norm]


def describe(kind: str, module: Encoders) -> dict[str, Any]:
    """Return the config.json of an encoder."""
    encoder = module.encoders["audio"]
    expected = {"projected_norm": True} if kind == "wav2vec2" else {}
    fields = written(kind, encoder, FIELDS[kind], **expected)
    fields["feat_extract_norm"] = {ours: theirs for theirs, ours in NORMS.items()}[encoder.norm]
    unmasked = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}  # otherwise transformers adds a mask embedding
    return {"model_type": kind, "architectures": [ARCHITECTURES[kind]]} | unmasked | fields


def processor(where: pathlib.Path, config: Mapping[str, Any], limits: Limits = DEFAULT) -> sounds.Waves:
    """Build the processor from preprocessor_config.json; the default is transformers' processor of this family.

    Raises:
        UserError: the file requests padding other than zeros at the end.
    """
    del limits
    known, least = read(config, FIELDS[config["model_type"]]), 1
    for kernel, stride in reversed([*zip(known["kernels"], known["strides"], strict=False)]):
        least = (least - 1) * stride + kernel
    fields, files = folder.read_processor(where, {"padding_value": 0.0, "padding_side": "right"}, "Wav2Vec2")
    rate, normalize = fields.get("sampling_rate", 16_000), fields.get("do_normalize", True)
    try:
        return sounds.Waves(rate, normalize, least, files=files)
    except UserError as error:
        raise error.within(str(where / FILE)) from None
