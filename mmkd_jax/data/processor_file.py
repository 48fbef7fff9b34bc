"""What a published model's processor is set to, in whichever file it was saved."""

import json
import pathlib
from typing import Any

from mmkd_jax.errors import UserError

FILE = "preprocessor_config.json"
NESTED = "processor_config.json"


def settings(folder: pathlib.Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The fields, and the file as `preprocessor_config.json`, to be saved again; nothing where there is none.

    transformers writes `preprocessor_config.json`, for videos `video_preprocessor_config.json`, and of processors of
    several parts `processor_config.json`, where they are nested.

    Args:
        folder: of the model.

    Raises:
        UserError: the file is no JSON.
    """
    for name in (FILE, "video_preprocessor_config.json", NESTED):
        if not (folder / name).is_file():
            continue
        data = (folder / name).read_bytes()
        try:
            said = json.loads(data)
        except json.JSONDecodeError as error:
            raise UserError(f"{folder / name} is damaged ({error}): fetch it again") from error
        if name == NESTED:
            parts = [said[k] for k in ("feature_extractor", "image_processor", "video_processor") if k in said]
            if not parts:
                continue
            said, data = parts[0], (json.dumps(parts[0], indent=2) + "\n").encode()
        return said, {FILE: data}
    return {}, {}
