"""ConvNeXt V2: configuration and tensor names, which are those of ConvNeXt but for the response normalization."""

import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from mmkd_jax.child_process import DEFAULT, Limits
from mmkd_jax.data import images
from mmkd_jax.errors import UserError
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.pretrained import convolutional
from mmkd_jax.pretrained.attributes import field, replaced
from mmkd_jax.pretrained.mapping import Table, Turn

FIELDS = {"convnextv2": convolutional.FIELDS["convnext"]}

ignored = convolutional.ignored

_CHANNELS = Turn(lambda x: x[0, 0, 0], lambda x: x[None, None, None])
_ROW = ("encoder.stages.{i}.layers.{j}.grn", {"scale": ("weight", _CHANNELS), "bias": ("bias", _CHANNELS)})


def table(kind: str, module: Encoders) -> Table:
    """Return the tensor table of a `model_type`."""
    del kind
    return {"encoders_image/block_{i}_{j}_response": _ROW} | convolutional.table("convnext", module)


def prefix(kind: str) -> str:
    """Return the prefix of tensor names in checkpoints of models with a head."""
    return f"{kind}."


def build(config: Mapping[str, Any], names: Collection[str], processor: images.ImageProcessor) -> Encoders:
    """Build the encoder from config.json and the normalization of its processor."""
    module = convolutional.build({**config, "model_type": "convnext", "layer_scale_init_value": 0.0}, names, processor)
    return Encoders({"image": replaced(module.encoders["image"], response_norm=True)})


def describe(kind: str, module: Encoders) -> dict[str, Any]:
    """Return the config.json of an encoder.

    Raises:
        UserError: the encoder has LayerScale, or no response normalization.
    """
    encoder = module.encoders["image"]
    if encoder.layer_scale or not encoder.response_norm:
        has = f"layer_scale={encoder.layer_scale} and response_norm={encoder.response_norm}"
        raise UserError(f"kind {kind!r} does not describe an encoder with {has}")
    fields = convolutional.describe("convnext", module)
    del fields["layer_scale_init_value"]
    return fields | {"model_type": kind, "architectures": ["ConvNextV2Model"]}


def processor(folder: pathlib.Path, config: Mapping[str, Any], limits: Limits = DEFAULT) -> images.ImageProcessor:
    """Build the processor from preprocessor_config.json; the default is transformers' processor of this family.

    Raises:
        UserError: the file requests unsupported preprocessing.
    """
    defaults = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "size": 384, "crop_pct": 224 / 256, "resample": 3}
    channels = field(config, "num_channels", 3)
    return images.read(folder, defaults | {"kind": "ConvNext"}, limits=limits, channels=channels)
