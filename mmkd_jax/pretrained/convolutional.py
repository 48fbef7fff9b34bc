"""ResNet, ConvNeXt: configurations and tensor names of convolutional image encoders."""

import pathlib
import reprlib
from collections.abc import Collection, Mapping
from typing import Any

from mmkd_jax.child_process import DEFAULT, Limits
from mmkd_jax.data import images
from mmkd_jax.errors import UserError
from mmkd_jax.models.convnext import ConvNext
from mmkd_jax.models.encoders import Encoders
from mmkd_jax.models.resnet import ResNet
from mmkd_jax.pretrained.attributes import field, number, read
from mmkd_jax.pretrained.mapping import BATCH_NORM, CONV, DENSE, DEPTHWISE, NORM, VALUE, Table, inside

_BLOCK = "encoder.stages.{i}.layers.{j}"

RESNET: Table = {
    "stem/conv": ("embedder.embedder.convolution", CONV),
    "stem/norm": ("embedder.embedder.normalization", BATCH_NORM),
    "block_{i}_{j}_conv_{k}/conv": (f"{_BLOCK}.layer.{{k}}.convolution", CONV),
    "block_{i}_{j}_conv_{k}/norm": (f"{_BLOCK}.layer.{{k}}.normalization", BATCH_NORM),
    "block_{i}_{j}_shortcut/conv": (f"{_BLOCK}.shortcut.convolution", CONV),
    "block_{i}_{j}_shortcut/norm": (f"{_BLOCK}.shortcut.normalization", BATCH_NORM),
}
CONVNEXT: Table = {
    "embed": ("embeddings.patch_embeddings", CONV),
    "norm_embedded": ("embeddings.layernorm", NORM),
    "norm_{i}": ("encoder.stages.{i}.downsampling_layer.0", NORM),
    "down_{i}": ("encoder.stages.{i}.downsampling_layer.1", CONV),
    "block_{i}_{j}_depthwise": (f"{_BLOCK}.dwconv", DEPTHWISE),
    "block_{i}_{j}_norm": (f"{_BLOCK}.layernorm", NORM),
    "block_{i}_{j}_grow": (f"{_BLOCK}.pwconv1", DENSE),
    "block_{i}_{j}_shrink": (f"{_BLOCK}.pwconv2", DENSE),
    "block_{i}_{j}_scale": (f"{_BLOCK}.layer_scale_parameter", VALUE),
    "norm": ("layernorm", NORM),
}

# our attribute: (key in config.json, default)
_COMMON = {
    "channels": ("num_channels", 3),
    "widths": ("hidden_sizes", (96, 192, 384, 768)),
    "depths": ("depths", (3, 3, 9, 3)),
}
_RESNET = _COMMON | {
    "stem": ("embedding_size", 64),
    "widths": ("hidden_sizes", (256, 512, 1024, 2048)),
    "depths": ("depths", (3, 4, 6, 3)),
    "activation": ("hidden_act", "relu"),
    "halved": ("downsample_in_first_stage", False),
    "early": ("downsample_in_bottleneck", False),
}
_CONVNEXT = _COMMON | {
    "patch": ("patch_size", 4),
    "activation": ("hidden_act", "gelu"),
    "eps": ("layer_norm_eps", 1e-12),
}
FIELDS = {"resnet": _RESNET, "convnext": _CONVNEXT}

ignored = (r"classifier\..*",)


def table(kind: str, module: Encoders) -> Table:
    """Return the tensor table of a `model_type`."""
    del module
    return inside("encoders_image", RESNET if kind == "resnet" else CONVNEXT)


def prefix(kind: str) -> str:
    """Return the prefix of tensor names in checkpoints of models with a head."""
    return f"{kind}."


def build(config: Mapping[str, Any], names: Collection[str], processor: images.ImageProcessor) -> Encoders:
    """Build the encoder from config.json and the normalization of its processor.

    Raises:
        UserError: the configuration requests an unsupported feature.
    """
    del names
    kind = config["model_type"]
    fields = read(config, FIELDS[kind])
    fields |= {k: tuple(fields[k]) for k in ("widths", "depths")} | {"mean": processor.mean, "std": processor.std}
    if kind == "convnext":
        return Encoders({"image": ConvNext(**fields, layer_scale=number(config, "layer_scale_init_value", 1e-6) > 0)})
    layer = field(config, "layer_type", "bottleneck")
    if layer not in ("basic", "bottleneck"):
        raise UserError(
            f"config.json has layer_type={reprlib.repr(layer)}; only 'basic' and 'bottleneck' are supported"
        )
    return Encoders({"image": ResNet(**fields, bottleneck=layer == "bottleneck")})


def describe(kind: str, module: Encoders) -> dict[str, Any]:
    """Return the config.json of an encoder."""
    encoder = module.encoders["image"]
    fields = {theirs: getattr(encoder, ours) for ours, (theirs, _) in FIELDS[kind].items()}
    if kind == "convnext":
        fields |= {"layer_scale_init_value": 1e-6 if encoder.layer_scale else 0.0, "num_stages": len(encoder.widths)}
        return {"model_type": kind, "architectures": ["ConvNextModel"]} | fields
    fields["layer_type"] = "bottleneck" if encoder.bottleneck else "basic"
    return {"model_type": kind, "architectures": ["ResNetModel"]} | fields


def processor(folder: pathlib.Path, config: Mapping[str, Any], limits: Limits = DEFAULT) -> images.ImageProcessor:
    """Build the processor from preprocessor_config.json; the default is that of published models of these families.

    Raises:
        UserError: the file requests unsupported preprocessing.
    """
    imagenet = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "kind": "ConvNext"}
    channels = field(config, "num_channels", 3)
    defaults = imagenet | {"size": 256, "crop": (224, 224), "resample": 3}
    return images.read(folder, defaults, channels=channels, limits=limits)
