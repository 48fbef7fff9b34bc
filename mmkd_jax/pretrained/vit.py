"""ViT, DeiT, DINOv2: configurations and tensor names of image encoders."""

import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from mmkd_jax.child_process import DEFAULT, Limits
from mmkd_jax.data import images
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.models.vit import Vit
from mmkd_jax.pretrained.attributes import field, number, read, replaced, sides, written
from mmkd_jax.pretrained.mapping import CONV, DENSE, NORM, ROW, SAME, Table, Turn, inside

OURS, THEIRS = "transformer/layer_{i}", "encoder.layer.{i}"
TOKEN = Turn(lambda x: x[0, 0], lambda x: x[None, None])

_COMMON: Table = {
    "": (
        "embeddings",
        {
            "class": ("cls_token", TOKEN),
            "distillation": ("distillation_token", TOKEN),
            "positions": ("position_embeddings", ROW),
        }
        | {leaf: (f"patch_embeddings.projection.{name}", turn) for leaf, (name, turn) in CONV.items()},
    ),
    f"{OURS}/query": (f"{THEIRS}.attention.attention.query", DENSE),
    f"{OURS}/key": (f"{THEIRS}.attention.attention.key", DENSE),
    f"{OURS}/value": (f"{THEIRS}.attention.attention.value", DENSE),
    f"{OURS}/out": (f"{THEIRS}.attention.output.dense", DENSE),
    "norm": ("layernorm", NORM),
    "pooler": ("pooler.dense", DENSE),
}
VIT: Table = _COMMON | {
    f"{OURS}/norm_attention": (f"{THEIRS}.layernorm_before", NORM),
    f"{OURS}/norm_output": (f"{THEIRS}.layernorm_after", NORM),
    f"{OURS}/grow": (f"{THEIRS}.intermediate.dense", DENSE),
    f"{OURS}/shrink": (f"{THEIRS}.output.dense", DENSE),
}
DINOV2: Table = _COMMON | {
    f"{OURS}/norm_attention": (f"{THEIRS}.norm1", NORM),
    f"{OURS}/norm_output": (f"{THEIRS}.norm2", NORM),
    f"{OURS}/grow": (f"{THEIRS}.mlp.fc1", DENSE),
    f"{OURS}/shrink": (f"{THEIRS}.mlp.fc2", DENSE),
    OURS: (
        THEIRS,
        {
            "scale_attention": ("layer_scale1.lambda1", SAME),
            "scale_output": ("layer_scale2.lambda1", SAME),
        },
    ),
}
GATED: Table = DINOV2 | {
    f"{OURS}/grow": (f"{THEIRS}.mlp.weights_in", DENSE),
    f"{OURS}/shrink": (f"{THEIRS}.mlp.weights_out", DENSE),
}

# our attribute: (key in config.json, default)
_FIELDS = {
    "channels": ("num_channels", 3),
    "embed_dim": ("hidden_size", 768),
    "num_layers": ("num_hidden_layers", 12),
    "num_heads": ("num_attention_heads", 12),
    "activation": ("hidden_act", "gelu"),
    "bias": ("qkv_bias", True),
    "dropout": ("hidden_dropout_prob", 0.0),
    "attention_dropout": ("attention_probs_dropout_prob", 0.0),
}
_VIT = _FIELDS | {
    "mlp_dim": ("intermediate_size", 3072),
    "eps": ("layer_norm_eps", 1e-12),
    "pooled": ("pooler_output_size", None),
    "pooler_activation": ("pooler_act", "tanh"),
}
FIELDS = {"vit": _VIT, "deit": _VIT, "dinov2": _FIELDS | {"eps": ("layer_norm_eps", 1e-6)}}
ARCHITECTURES = {"vit": "ViTModel", "deit": "DeiTModel", "dinov2": "Dinov2Model"}

# mask token and heads of pretraining and downstream tasks
ignored = (r"embeddings\.mask_token", r"(classifier|cls_classifier|distillation_classifier|decoder)\..*")


def table(kind: str, module: Encoders) -> Table:
    """Return the tensor table of a `model_type`."""
    tensors = VIT if kind != "dinov2" else GATED if module.encoders["image"].config.gated_mlp else DINOV2
    return inside("encoders_image", tensors)


def prefix(kind: str) -> str:
    """Return the prefix of tensor names in checkpoints of models with a head."""
    return f"{kind}."


def build(config: Mapping[str, Any], names: Collection[str], processor: images.ImageProcessor) -> Encoders:
    """Build the encoder from config.json, the names of its tensors, and the normalization of its processor."""
    kind = config["model_type"]
    fields = read(config, FIELDS[kind]) | {"mean": processor.mean, "std": processor.std}
    fields["patch"] = sides(config, "patch_size", 14 if kind == "dinov2" else 16)
    fields["size"] = sides(config, "image_size", 224)
    if kind == "dinov2":
        fields["layer_scale"], fields["gated_mlp"] = True, field(config, "use_swiglu_ffn", False)
        fields["mlp_dim"] = _dinov2_mlp_dim(fields["embed_dim"], number(config, "mlp_ratio", 4), fields["gated_mlp"])
        fields["activation"] = "silu" if fields["gated_mlp"] else fields["activation"]
    fields |= {"num_prefix_tokens": 2 if kind == "deit" else 1, "pooler": any("pooler.dense." in n for n in names)}
    return Encoders({"image": replaced(Vit(), **fields)})


def _dinov2_mlp_dim(embed_dim, ratio, gated):
    dim = int(embed_dim * ratio)
    return (int(dim * 2 / 3) + 7) // 8 * 8 if gated else dim  # two thirds, in multiples of 8


def describe(kind: str, module: Encoders) -> dict[str, Any]:
    """Return the config.json of an encoder."""
    encoder = module.encoders["image"]
    expected: dict[str, Any] = {"num_prefix_tokens": 2 if kind == "deit" else 1, "prompts": 0}
    more: dict[str, Any] = {"image_size": list(encoder.size), "patch_size": list(encoder.patch)}
    if kind == "dinov2":
        config, gated = encoder.config, encoder.config.gated_mlp
        ratio = round((config.mlp_dim * 3 // 2 if gated else config.mlp_dim) / config.embed_dim)
        expected |= {"layer_scale": True, "gated_mlp": gated, "activation": "silu" if gated else config.activation}
        expected["mlp_dim"] = _dinov2_mlp_dim(config.embed_dim, ratio, gated)
        more |= {"use_swiglu_ffn": gated, "use_mask_token": False, "mlp_ratio": ratio}
    fields = written(kind, encoder, FIELDS[kind], **expected) | more
    return {"model_type": kind, "architectures": [ARCHITECTURES[kind]]} | fields


def processor(folder: pathlib.Path, config: Mapping[str, Any], limits: Limits = DEFAULT) -> images.ImageProcessor:
    """Build the processor from preprocessor_config.json; the default is transformers' processor of this family.

    Raises:
        UserError: the file requests unsupported preprocessing.
    """
    half = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    defaults = {
        "vit": half | {"size": (224, 224)},
        "deit": half | {"size": (256, 256), "crop": (224, 224), "resample": 3},
        "dinov2": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "size": 256, "crop": (224, 224)}
        | {"resample": 3, "kind": "Bit"},
    }
    channels = field(config, "num_channels", 3)
    return images.read(folder, defaults[config["model_type"]], channels=channels, limits=limits)
