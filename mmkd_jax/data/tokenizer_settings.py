"""Settings of a tokenizer in tokenizer_config.json."""

import math
import pathlib
from typing import Any, NamedTuple

from mmkd_jax import files
from mmkd_jax.errors import UserError


class TokenizerSettings(NamedTuple):
    """Fields of tokenizer_config.json that are read.

    Attributes:
        model_max_length: maximum length in tokens; None for no limit.
        do_lower_case: lowercase texts; of a vocab.txt only.
        strip_accents: remove accents; None for the same as `do_lower_case`.
        pad_token: the padding token, if it is named.
    """

    model_max_length: float | None = None
    do_lower_case: bool = True
    strip_accents: bool | None = None
    pad_token: str | None = None


def read(folder: pathlib.Path, data: bytes) -> TokenizerSettings:
    """Parse tokenizer_config.json.

    Args:
        folder: model folder, used in messages.
        data: content of the file.

    Raises:
        UserError: the file is not a JSON object, or a field has a value of another kind.
    """
    path = folder / "tokenizer_config.json"
    fields = files.json_object(data, path)
    pad = fields.get("pad_token")
    pad = pad.get("content") if isinstance(pad, dict) else pad
    longest: Any = fields.get("model_max_length")
    found = TokenizerSettings(longest, fields.get("do_lower_case", True), fields.get("strip_accents"), pad)
    number = isinstance(longest, int | float) and not isinstance(longest, bool)
    if longest is not None and not (number and longest >= 1 and not math.isnan(longest)):
        raise UserError(f"{path}: model_max_length is {longest!r}; expected a number of tokens")
    kinds = {"do_lower_case": (bool, "true or false"), "strip_accents": (bool | None, "true, false or null")}
    kinds |= {"pad_token": (str | None, "a token")}
    for name, (kind, expected) in kinds.items():
        if not isinstance(value := getattr(found, name), kind):
            raise UserError(f"{path}: {name} is {value!r}; expected {expected}")
    return found
