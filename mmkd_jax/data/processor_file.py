"""Processor settings of a published model, from any of the file names in use."""

import json
import pathlib
from typing import Any

from mmkd_jax.errors import UserError

FILE = "preprocessor_config.json"
NESTED = "processor_config.json"


def settings(folder: pathlib.Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the processor's fields, and its file as `preprocessor_config.json` for saving; both empty without a file.

    transformers writes `preprocessor_config.json`, `video_preprocessor_config.json` for videos, and
    `processor_config.json` with nested settings for processors with several parts.

    Args:
        folder: model folder.

    Raises:
        UserError: the file is not valid JSON.
    """
    for name in (FILE, "video_preprocessor_config.json", NESTED):
        if not (folder / name).is_file():
            continue
        data = (folder / name).read_bytes()
        try:
            fields = json.loads(data)
        except json.JSONDecodeError as error:
            raise UserError(f"{folder / name} is damaged ({error}): fetch it again") from error
        if name == NESTED:
            parts = [fields[k] for k in ("feature_extractor", "image_processor", "video_processor") if k in fields]
            if not parts:
                continue
            fields, data = parts[0], (json.dumps(parts[0], indent=2) + "\n").encode()
        return fields, {FILE: data}
    return {}, {}
