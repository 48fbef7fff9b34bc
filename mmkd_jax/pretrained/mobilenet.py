"""MobileNet V2: configuration and tensor names."""

import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from mmkd_jax.child_process import DEFAULT, Limits
from mmkd_jax.data import images
from mmkd_jax.errors import UserError
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.models.mobilenet import MobileNetV2
from mmkd_jax.pretrained.attributes import field, read, written
from mmkd_jax.pretrained.mapping import BATCH_NORM, CONV, DEPTHWISE, Table, inside


def _block(ours, theirs):
    return {
        f"{ours}_expand/conv": (f"{theirs}.expand_1x1.convolution", CONV),
        f"{ours}_expand/norm": (f"{theirs}.expand_1x1.normalization", BATCH_NORM),
        f"{ours}_depthwise": (f"{theirs}.conv_3x3.convolution", DEPTHWISE),
        f"{ours}_norm": (f"{theirs}.conv_3x3.normalization", BATCH_NORM),
        f"{ours}_project/conv": (f"{theirs}.reduce_1x1.convolution", CONV),
        f"{ours}_project/norm": (f"{theirs}.reduce_1x1.normalization", BATCH_NORM),
    }


TABLE: Table = {
    "stem/conv": ("conv_stem.first_conv.convolution", CONV),
    "stem/norm": ("conv_stem.first_conv.normalization", BATCH_NORM),
    "head/conv": ("conv_1x1.convolution", CONV),
    "head/norm": ("conv_1x1.normalization", BATCH_NORM),
    **_block("stem", "conv_stem"),
    **_block("block_{i}", "layer.{i}"),
}

# our attribute: (key in config.json, default)
FIELDS = {
    "mobilenet_v2": {
        "channels": ("num_channels", 3),
        "wide": ("depth_multiplier", 1.0),
        "divisor": ("depth_divisible_by", 8),
        "least": ("min_depth", 8),
        "expansion": ("expand_ratio", 6.0),
        "output_stride": ("output_stride", 32),
        "wide_head": ("finegrained_output", True),
        "same": ("tf_padding", True),
        "activation": ("hidden_act", "relu6"),
        "eps": ("layer_norm_eps", 1e-3),
    }
}
_WHOLE = "first_layer_is_expansion"

ignored = (r"(classifier|segmentation_head)\..*",)


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
        UserError: the output stride is not 8, 16 or 32.
    """
    del names
    fields = read(config, FIELDS[config["model_type"]]) | {"mean": processor.mean, "std": processor.std}
    fields |= {k: float(fields[k]) for k in ("wide", "expansion", "eps")}
    if fields["output_stride"] not in (8, 16, 32):
        raise UserError(f"config.json has output_stride={fields['output_stride']}; expected 8, 16 or 32")
    return Encoders({"image": MobileNetV2(**fields, stem_expansion=not field(config, _WHOLE, True))})


def describe(kind: str, module: Encoders) -> dict[str, Any]:
    """Return the config.json of an encoder."""
    encoder = module.encoders["image"]
    fields = written(kind, encoder, FIELDS[kind]) | {_WHOLE: not encoder.stem_expansion}
    return {"model_type": kind, "architectures": ["MobileNetV2Model"]} | fields


def processor(folder: pathlib.Path, config: Mapping[str, Any], limits: Limits = DEFAULT) -> images.ImageProcessor:
    """Build the processor from preprocessor_config.json; the default is transformers' processor of this family.

    Raises:
        UserError: the file requests unsupported preprocessing.
    """
    defaults = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "size": 256, "crop": (224, 224)}
    return images.read(folder, defaults, limits=limits, channels=field(config, "num_channels", 3))
