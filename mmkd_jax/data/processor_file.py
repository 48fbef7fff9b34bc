"""Processor settings of a published model, from any of the file names in use."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from mmkd_jax import foreign_files
from mmkd_jax.errors import UserError

FILE = "preprocessor_config.json"
NESTED = "processor_config.json"
ON_WHITE = ("Bit", "CLIP", "Siglip")
"""Processors of transformers that composite transparent images onto white by default."""
_ENDINGS = ("Fast", "Pil", "ImageProcessor", "VideoProcessor", "FeatureExtractor")


def kind(fields: Mapping[str, Any], default: str = "") -> str:
    """Return the name of the processor's class, without its ending.

    Args:
        fields: the processor's fields.
        default: the name if they have none.

    Example:
        >>> kind({"image_processor_type": "ConvNextImageProcessorFast"})
        'ConvNext'
    """
    name = fields.get("image_processor_type") or fields.get("feature_extractor_type")
    if not isinstance(name, str):
        return default
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
