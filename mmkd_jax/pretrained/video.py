"""ViViT, TimeSformer: configurations and tensor names of video encoders."""

import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from mmkd_jax.child_process import DEFAULT, Limits
from mmkd_jax.data import images
from mmkd_jax.data.videos import Videos
from mmkd_jax.errors import UserError
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.models.timesformer import Timesformer
from mmkd_jax.models.vit import Vit
from mmkd_jax.pretrained import vit
from mmkd_jax.pretrained.attributes import field, read, replaced, sides, written
from mmkd_jax.pretrained.mapping import DENSE, NORM, ROW, Table, inside, part

OURS, THEIRS = vit.OURS, vit.THEIRS

TIMESFORMER: Table = vit.VIT | {
    "times": ("embeddings.time_embeddings", {"": ("", ROW)}),
    f"{OURS}/query": (f"{THEIRS}.attention.attention.qkv", part(0, 3)),
    f"{OURS}/key": (f"{THEIRS}.attention.attention.qkv", part(1, 3)),
    f"{OURS}/value": (f"{THEIRS}.attention.attention.qkv", part(2, 3)),
    f"{OURS}/time_query": (f"{THEIRS}.temporal_attention.attention.qkv", part(0, 3)),
    f"{OURS}/time_key": (f"{THEIRS}.temporal_attention.attention.qkv", part(1, 3)),
    f"{OURS}/time_value": (f"{THEIRS}.temporal_attention.attention.qkv", part(2, 3)),
    f"{OURS}/time_out": (f"{THEIRS}.temporal_attention.output.dense", DENSE),
    f"{OURS}/norm_time": (f"{THEIRS}.temporal_layernorm", NORM),
    f"{OURS}/time_dense": (f"{THEIRS}.temporal_dense", DENSE),
}

# our attribute: (key in config.json, default)
FIELDS = {
    "vivit": vit.FIELDS["vit"] | {"activation": ("hidden_act", "gelu_fast"), "eps": ("layer_norm_eps", 1e-6)},
    "timesformer": vit.FIELDS["dinov2"]
    | {
        "frames": ("num_frames", 8),
        "mlp_dim": ("intermediate_size", 3072),
        "attention": ("attention_type", "divided_space_time"),
    },
}

ignored = (r"classifier\..*",)


def table(kind: str, module: Encoders) -> Table:
    """Return the tensor table of a `model_type`."""
    del module
    return inside("encoders_video", vit.VIT if kind == "vivit" else TIMESFORMER)


def prefix(kind: str) -> str:
    """Return the prefix of tensor names in checkpoints of models with a head."""
    return f"{kind}."


def build(config: Mapping[str, Any], names: Collection[str], processor: Videos) -> Encoders:
    """Build the encoder from config.json, the names of its tensors, and the normalization of its processor."""
    kind, pictures = config["model_type"], processor.pictures
    fields = read(config, FIELDS[kind])
    fields |= {"mean": pictures.mean, "std": pictures.std, "size": sides(config, "image_size", 224)}
    if kind == "timesformer":
        return Encoders({"video": replaced(Timesformer(), **fields, patch=sides(config, "patch_size", 16))})
    fields["size"] = (field(config, "num_frames", 32), *fields["size"])
    fields["patch"] = tuple(field(config, "tubelet_size", (2, 16, 16)))
    fields["pooler"] = any("pooler.dense." in n for n in names)
    return Encoders({"video": replaced(Vit(), **fields)})


def describe(kind: str, module: Encoders) -> dict[str, Any]:
    """Return the config.json of an encoder."""
    encoder = module.encoders["video"]
    if kind == "timesformer":  # transformers supports square sizes only
        if len({*encoder.size}) > 1 or len({*encoder.patch}) > 1:
            raise UserError(f"kind {kind!r} does not describe frames of {encoder.size} in patches of {encoder.patch}")
        fields = written(kind, encoder, FIELDS[kind])
        fields |= {"image_size": encoder.size[0], "patch_size": encoder.patch[0]}
        return {"model_type": kind, "architectures": ["TimesformerModel"]} | fields
    fields = written(kind, encoder, FIELDS[kind], num_prefix_tokens=1)
    if len(encoder.size) != 3:
        raise UserError(f"kind {kind!r} does not describe an encoder with size={encoder.size}")
    fields |= {"num_frames": encoder.size[0], "image_size": list(encoder.size[1:]), "tubelet_size": list(encoder.patch)}
    return {"model_type": kind, "architectures": ["VivitModel"]} | fields


def processor(folder: pathlib.Path, config: Mapping[str, Any], limits: Limits = DEFAULT) -> Videos:
    """Build the processor from preprocessor_config.json; the default is transformers' processor of this family.

    Raises:
        UserError: the file requests unsupported preprocessing.
    """
    vivit = config["model_type"] == "vivit"
    defaults = {"size": 256 if vivit else 224, "crop": (224, 224)}
    pictures = images.read(folder, defaults, offset=vivit, limits=limits)
    return Videos(pictures, field(config, "num_frames", 32 if vivit else 8))
