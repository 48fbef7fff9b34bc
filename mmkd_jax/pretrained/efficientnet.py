"""EfficientNet-Lite: configuration and tensor names of its PyTorch port; not a `model_type` of transformers."""

import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from mmkd_jax.child_process import DEFAULT, Limits
from mmkd_jax.data import images
from mmkd_jax.models.efficientnet import EfficientNetLite
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.pretrained.attributes import read
from mmkd_jax.pretrained.mapping import BATCH_NORM, CONV, DEPTHWISE, Table, inside

_BLOCK = "_blocks.{i}"

TABLE: Table = {
    "stem/conv": ("_conv_stem", CONV),
    "stem/norm": ("_bn0", BATCH_NORM),
    "block_{i}_expand/conv": (f"{_BLOCK}._expand_conv", CONV),
    "block_{i}_expand/norm": (f"{_BLOCK}._bn0", BATCH_NORM),
    "block_{i}_depthwise": (f"{_BLOCK}._depthwise_conv", DEPTHWISE),
    "block_{i}_norm": (f"{_BLOCK}._bn1", BATCH_NORM),
    "block_{i}_project/conv": (f"{_BLOCK}._project_conv", CONV),
    "block_{i}_project/norm": (f"{_BLOCK}._bn2", BATCH_NORM),
    "head/conv": ("_conv_head", CONV),
    "head/norm": ("_bn1", BATCH_NORM),
}
FIELDS = {"efficientnet-lite": {"wide": ("width_coefficient", 1.0), "deep": ("depth_coefficient", 1.0)}}

ignored = (r"_fc\..*",)


def table(kind: str, module: Encoders) -> Table:
    """Return the tensor table of a `model_type`."""
    del kind, module
    return inside("encoders_image", TABLE)


def prefix(kind: str) -> str:
    """Return the prefix of tensor names: none in this family."""
    return ""


def build(config: Mapping[str, Any], names: Collection[str], processor: images.ImageProcessor) -> Encoders:
    """Build the encoder from config.json and the normalization of its processor."""
    del names
    fields: dict[str, Any] = {k: float(x) for k, x in read(config, FIELDS[config["model_type"]]).items()}
    return Encoders({"image": EfficientNetLite(**fields, mean=processor.mean, std=processor.std)})


def describe(kind: str, module: Encoders) -> dict[str, Any]:
    """Return the config.json of an encoder."""
    encoder = module.encoders["image"]
    return {"model_type": kind} | {theirs: getattr(encoder, ours) for ours, (theirs, _) in FIELDS[kind].items()}


def processor(folder: pathlib.Path, config: Mapping[str, Any], limits: Limits = DEFAULT) -> images.ImageProcessor:
    """Build the processor from preprocessor_config.json; the default is 224 px with the authors' mean 127 and std 128.

    Raises:
        UserError: the file requests unsupported preprocessing.
    """
    del config
    scale = {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}
    return images.read(folder, scale | {"size": 256, "crop": (224, 224), "resample": 3}, limits=limits)
