"""Processor settings of a published model, from any of the file names in use."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from mmkd_jax import foreign_files
from mmkd_jax.errors import UserError, shown

FILE = "preprocessor_config.json"
NESTED = "processor_config.json"
OURS = ("Bit", "CLIP", "ConvNext", "DeiT", "MobileNetV2", "Siglip", "Timesformer", "ViT", "VideoMAE", "Vivit")
"""Processors of transformers whose pixels `images.Pictures` has."""
ON_WHITE = ("Bit", "CLIP", "Siglip")
"""Processors of transformers that composite transparent images onto white by default."""
_TYPES = ("image_processor_type", "video_processor_type", "feature_extractor_type")
_ENDINGS = ("Fast", "Pil", "ImageProcessor", "VideoProcessor", "FeatureExtractor")


def kind(fields: Mapping[str, Any], default: str = "") -> str:
    """Return the name of the processor's class, without its ending.

    Args:
        fields: the processor's fields.
        default: the name if they have none.

    Raises:
        UserError: the name is no text.

    Example:
        >>> kind({"image_processor_type": "ConvNextImageProcessorFast"})
        'ConvNext'
    """
    key = next((k for k in _TYPES if fields.get(k) is not None), None)
    if key is None:
        return default
    if not isinstance(name := fields[key], str):
        raise UserError(f"{key} is {shown(repr(name))}; expected the name of a class")
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    return name


def settings(folder: pathlib.Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the processor's fields, and its file as `preprocessor_config.json` for saving; both empty without a file.

    transformers writes `preprocessor_config.json`, `video_preprocessor_config.json` for videos, and
    `processor_config.json` with nested settings for processors with several parts.

    Args:
        folder: model folder.

    Raises:
        UserError: the file is not a JSON object.
    """
    for name in (FILE, "video_preprocessor_config.json", NESTED):
        if not (folder / name).exists():
            continue
        data = foreign_files.read_bytes(folder / name, foreign_files.MOST_JSON)
        fields = foreign_files.json_object(data, folder / name)
        if name == NESTED:
            sections = [fields[k] for k in ("feature_extractor", "image_processor", "video_processor") if k in fields]
            if not sections:
                continue
            if not isinstance(fields := sections[0], dict):
                raise UserError(f"{folder / name} has a section that is a {type(fields).__name__}; expected an object")
            data = (json.dumps(fields, indent=2) + "\n").encode()
        return fields, {FILE: data}
    return {}, {}
