"""Swin Transformer: configuration and tensor names."""

import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from mmkd_jax.child_process import DEFAULT, Limits
from mmkd_jax.data import images
from mmkd_jax.errors import UserError
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.models.swin import Swin
from mmkd_jax.pretrained.attributes import field, read, sides, written
from mmkd_jax.pretrained.mapping import CONV, DENSE, NORM, ROW, SAME, Table, inside

OURS, THEIRS = "stage_{i}/layer_{j}", "encoder.layers.{i}.blocks.{j}"

TABLE: Table = {
    "": (
        "embeddings",
        {"positions": ("position_embeddings", ROW)}
        | {leaf: (f"patch_embeddings.projection.{name}", turn) for leaf, (name, turn) in CONV.items()},
    ),
    "norm_embedded": ("embeddings.norm", NORM),
    OURS: (THEIRS, {"relative": ("attention.self.relative_position_bias_table", SAME)}),
    f"{OURS}/query": (f"{THEIRS}.attention.self.query", DENSE),
    f"{OURS}/key": (f"{THEIRS}.attention.self.key", DENSE),
    f"{OURS}/value": (f"{THEIRS}.attention.self.value", DENSE),
    f"{OURS}/out": (f"{THEIRS}.attention.output.dense", DENSE),
    f"{OURS}/norm_attention": (f"{THEIRS}.layernorm_before", NORM),
    f"{OURS}/norm_output": (f"{THEIRS}.layernorm_after", NORM),
    f"{OURS}/grow": (f"{THEIRS}.intermediate.dense", DENSE),
    f"{OURS}/shrink": (f"{THEIRS}.output.dense", DENSE),
    "norm_{i}": ("encoder.layers.{i}.downsample.norm", NORM),
    "merge_{i}": ("encoder.layers.{i}.downsample.reduction", DENSE),
    "norm": ("layernorm", NORM),
}

# our attribute: (key in config.json, default)
FIELDS = {
    "swin": {
        "channels": ("num_channels", 3),
        "embed_dim": ("embed_dim", 96),
        "depths": ("depths", (2, 2, 6, 2)),
        "heads": ("num_heads", (3, 6, 12, 24)),
        "window": ("window_size", 7),
        "mlp_ratio": ("mlp_ratio", 4.0),
        "positions": ("use_absolute_embeddings", False),
        "activation": ("hidden_act", "gelu"),
        "eps": ("layer_norm_eps", 1e-5),
        "bias": ("qkv_bias", True),
        "dropout": ("hidden_dropout_prob", 0.0),
        "attention_dropout": ("attention_probs_dropout_prob", 0.0),
    }
}

# the head, mask token and decoder of masked images, and an index that is a function of the window's size
ignored = (r"(classifier|decoder)\..*", r"embeddings\.mask_token", r".*\.relative_position_index")


def table(kind: str, module: Encoders) -> Table:
    """Return the tensor table of a `model_type`."""
    del kind, module
    return inside("encoders_image", TABLE)


def prefix(kind: str) -> str:
    """Return the prefix of tensor names in checkpoints of models with a head."""
    return f"{kind}."


def build(config: Mapping[str, Any], names: Collection[str], processor: images.ImageProcessor) -> Encoders:
    """Build the encoder from config.json and the normalization of its processor.

    Raises:
        UserError: config.json has the heads of another number of stages.
    """
    del names
    fields = read(config, FIELDS[config["model_type"]]) | {"mean": processor.mean, "std": processor.std}
    fields |= {k: tuple(fields[k]) for k in ("depths", "heads")}
    fields |= {k: float(fields[k]) for k in ("mlp_ratio", "eps", "dropout", "attention_dropout")}
    if len(fields["heads"]) != len(fields["depths"]):
        stages = f"num_heads of {len(fields['heads'])} stages and depths of {len(fields['depths'])}"
        raise UserError(f"config.json has {stages}; expected both of all stages")
    size, patch = sides(config, "image_size", 224), sides(config, "patch_size", 4)
    return Encoders({"image": Swin(**fields, size=size, patch=patch)})


def describe(kind: str, module: Encoders) -> dict[str, Any]:
    """Return the config.json of an encoder."""
    encoder = module.encoders["image"]
    more = {"image_size": list(encoder.size), "patch_size": list(encoder.patch)}
    return {"model_type": kind, "architectures": ["SwinModel"]} | written(kind, encoder, FIELDS[kind]) | more


def processor(folder: pathlib.Path, config: Mapping[str, Any], limits: Limits = DEFAULT) -> images.ImageProcessor:
    """Build the processor from preprocessor_config.json; the default is transformers' processor of this family, ViT's.

    Raises:
        UserError: the file requests unsupported preprocessing.
    """
    defaults = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "size": (224, 224)}
    return images.read(folder, defaults, limits=limits, channels=field(config, "num_channels", 3))
