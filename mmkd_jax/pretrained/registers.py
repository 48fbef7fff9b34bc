"""DINOv2 with registers: configuration and tensor names, which are those of DINOv2 with one more tensor."""

import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from mmkd_jax.child_process import DEFAULT, Limits
from mmkd_jax.data import images
from mmkd_jax.errors import UserError
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.pretrained import vit
from mmkd_jax.pretrained.attributes import field, replaced, sides
from mmkd_jax.pretrained.mapping import ROW, Table

FIELDS = {"dinov2_with_registers": vit.FIELDS["dinov2"] | {"registers": ("num_register_tokens", 4)}}

ignored = vit.ignored


def table(kind: str, module: Encoders) -> Table:
    """Return the tensor table of a `model_type`."""
    del kind
    rows = {"encoders_image/registers": ("embeddings.register_tokens", {"": ("", ROW)})}
    return rows | vit.table("dinov2", module)


def prefix(kind: str) -> str:
    """Return the prefix of tensor names in checkpoints of models with a head."""
    return f"{kind}."


def build(config: Mapping[str, Any], names: Collection[str], processor: images.ImageProcessor) -> Encoders:
    """Build the encoder from config.json, the names of its tensors, and the normalization of its processor."""
    module = vit.build({**config, "model_type": "dinov2"}, names, processor)
    fields = {"registers": field(config, "num_register_tokens", 4), "patch": sides(config, "patch_size", 16)}
    return Encoders({"image": replaced(module.encoders["image"], **fields)})


def describe(kind: str, module: Encoders) -> dict[str, Any]:
    """Return the config.json of an encoder.

    Raises:
        UserError: the encoder has no registers.
    """
    encoder = module.encoders["image"]
    if not encoder.registers:
        raise UserError(f"kind {kind!r} does not describe an encoder with registers=0")
    fields = vit.describe("dinov2", module) | {"num_register_tokens": encoder.registers}
    del fields["use_mask_token"]
    return fields | {"model_type": kind, "architectures": ["Dinov2WithRegistersModel"]}


def processor(folder: pathlib.Path, config: Mapping[str, Any], limits: Limits = DEFAULT) -> images.ImageProcessor:
    """Build the processor from preprocessor_config.json; the default is that of DINOv2.

    Raises:
        UserError: the file requests unsupported preprocessing.
    """
    return vit.processor(folder, {**config, "model_type": "dinov2"}, limits)
