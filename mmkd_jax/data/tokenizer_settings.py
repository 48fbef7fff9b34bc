"""Settings of a tokenizer in tokenizer_config.json."""

import math
import pathlib
from typing import Any, NamedTuple

from mmkd_jax import foreign_files
from mmkd_jax.errors import UserError, shown


class TokenizerSettings(NamedTuple):
    """Fields of tokenizer_config.json that are read.

    Attributes:
        model_max_length: maximum length in tokens; None for no limit.
        do_lower_case: lowercase texts; of a vocab.txt only.
        strip_accents: remove accents; None for the same as `do_lower_case`; of a vocab.txt only.
        tokenize_chinese_chars: make each Chinese character a word; of a vocab.txt only.
        pad_token: the padding token, if it is named.
        others: fields for which a vocab.txt is not read as WordPiece, in words, or "".
        padding_side: side on which transformers pads, "left" or "right".
        lowercase: lowercase texts before the rules of tokenizer.json, as the class of SigLIP 2 does.
    """

    model_max_length: float | None = None
    do_lower_case: bool = True
    strip_accents: bool | None = None
    tokenize_chinese_chars: bool = True
    pad_token: str | None = None
    others: str = ""
    padding_side: str = "right"
    lowercase: bool = False


_WORD_PIECE = (None, "BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer", "DistilBertTokenizerFast")
_LEFT = ("GemmaTokenizer", "GemmaTokenizerFast", "Siglip2Tokenizer")
"""Classes that pad on the left by default."""
_BASIC = {"do_basic_tokenize": True, "never_split": None, "word_tokenizer_type": "basic"}
_BASIC |= {"subword_tokenizer_type": "wordpiece"}


def read(folder: pathlib.Path, data: bytes) -> TokenizerSettings:
    """Parse tokenizer_config.json.

    Args:
        folder: model folder, used in messages.
        data: content of the file.

    Raises:
        UserError: the file is not a JSON object, or a field has a value of another kind.
    """
    path = folder / "tokenizer_config.json"
    fields = foreign_files.json_object(data, path)
    pad = fields.get("pad_token")
    pad = pad.get("content") if isinstance(pad, dict) else pad
    longest: Any = fields.get("model_max_length")
    others = [f"{k}={shown(repr(fields[k]))}" for k, x in _BASIC.items() if fields.get(k, x) not in (x, None)]
    if (kind := fields.get("tokenizer_class")) not in _WORD_PIECE:
        others.append(f"tokenizer_class={shown(repr(kind))}")
    found = TokenizerSettings(
        longest,
        fields.get("do_lower_case", True),
        fields.get("strip_accents"),
        fields.get("tokenize_chinese_chars", True),
        pad,
        ", ".join(others),
        fields.get("padding_side", "left" if kind in _LEFT else "right"),
        kind == "Siglip2Tokenizer",
    )
    number = isinstance(longest, int | float) and not isinstance(longest, bool)
    if longest is not None and not (number and longest >= 1 and not math.isnan(longest)):
        raise UserError(f"{path}: model_max_length is {shown(repr(longest))}; expected a number of tokens")
    kinds = {"do_lower_case": (bool, "true or false"), "strip_accents": (bool | None, "true, false or null")}
    kinds |= {"pad_token": (str | None, "a token"), "tokenize_chinese_chars": (bool, "true or false")}
    for name, (kind, expected) in kinds.items():
        if not isinstance(value := getattr(found, name), kind):
            raise UserError(f"{path}: {name} is {shown(repr(value))}; expected {expected}")
    if found.padding_side not in ("left", "right"):
        raise UserError(f"{path}: padding_side is {shown(repr(found.padding_side))}; expected 'left' or 'right'")
    return found
