"""ViViT: configurations and tensors of the video encoders."""

import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from mmkd_jax.data import images
from mmkd_jax.data.videos import Videos
from mmkd_jax.errors import UserError
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.models.vit import Vit
from mmkd_jax.pretrained import vit
from mmkd_jax.pretrained.mapping import Table, inside

# ours: what config.json calls it, and what it is where it is not there
FIELDS = {"vivit": vit.FIELDS["vit"] | {"activation": ("hidden_act", "gelu_fast"), "eps": ("layer_norm_eps", 1e-6)}}

ignored = (r"classifier\..*",)


def table(kind: str, module: Encoders) -> Table:
    """The table of tensors of a `model_type`."""
    del kind, module
    return inside("encoders_video", vit.VIT)


def prefix(kind: str) -> str:
    """What the names of tensors begin with in the file of a model with a head."""
    return f"{kind}."


def build(config: Mapping[str, Any], names: Collection[str], processor: Videos) -> Encoders:
    """The encoder of a config.json, of the names of its tensors and of what its processor normalises by."""
    kind, scale = config["model_type"], {k: getattr(processor.pictures, k) for k in ("mean", "std")}
    fields = {ours: config.get(theirs, default) for ours, (theirs, default) in FIELDS[kind].items()} | scale
    fields["size"] = (config.get("num_frames", 32), *vit.pair(config.get("image_size", 224)))
    fields["patch"] = tuple(config.get("tubelet_size", (2, 16, 16)))
    return Encoders({"video": Vit(**fields, pooler=any("pooler.dense." in n for n in names))})


def describe(kind: str, module: Encoders) -> dict[str, Any]:
    """The config.json of an encoder."""
    encoder = module.encoders["video"]
    fields = {theirs: getattr(encoder, ours) for ours, (theirs, _) in FIELDS[kind].items()}
    if (encoder.extra, encoder.scaled, len(encoder.size)) != (1, False, 3):
        said = f"extra={encoder.extra}, scaled={encoder.scaled}, size={encoder.size}"
        raise UserError(f"kind {kind!r} does not describe an encoder with {said}")
    fields |= {"num_frames": encoder.size[0], "image_size": list(encoder.size[1:]), "tubelet_size": list(encoder.patch)}
    return {"model_type": kind, "architectures": ["VivitModel"]} | fields


def processor(folder: pathlib.Path, config: Mapping[str, Any]) -> Videos:
    """What its preprocessor_config.json says; without one, what transformers' processor of this family does.

    Raises:
        UserError: the file asks for something that is not supported.
    """
    pictures = images.read(folder, {"size": 256, "crop": (224, 224)}, offset=True)
    return Videos(pictures, config.get("num_frames", 32))
