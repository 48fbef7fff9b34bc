"""Special and added tokens of a tokenizer without tokenizer.json, from the JSON files beside its vocabulary."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import tokenizers

from mmkd_jax import foreign_files
from mmkd_jax.errors import UserError, shown

NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
CONFIG, SPECIAL, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


class SpecialTokens(NamedTuple):
    """Tokens that the files name.

    Attributes:
        named: field -> token; None for a field that is null.
        extra: further special tokens.
        added: id -> token.
    """

    named: Mapping[str, tokenizers.AddedToken | None]
    extra: list[tokenizers.AddedToken]
    added: Mapping[int, tokenizers.AddedToken]


def read(folder: pathlib.Path, files: Mapping[str, bytes]) -> SpecialTokens:
    """Read the tokens that a folder names.

    `added_tokens_decoder` of tokenizer_config.json replaces the older special_tokens_map.json and added_tokens.json.
    In special_tokens_map.json, a token replaces that of tokenizer_config.json.

    Args:
        folder: model folder, used in messages.
        files: name -> content of its tokenizer files.

    Raises:
        UserError: a file is not a JSON object, or a token has another form.
    """
    objects = {n: foreign_files.json_object(files.get(n, b"{}"), folder / n) for n in (CONFIG, SPECIAL, ADDED)}
    fields, old = objects[CONFIG], objects[SPECIAL]
    extra = fields.get("extra_special_tokens") or fields.get("additional_special_tokens") or []
    if "added_tokens_decoder" in fields:
        added = {_id(i, folder / CONFIG): x for i, x in _object(fields["added_tokens_decoder"], folder).items()}
        old, ids = {}, {}
    else:
        added, ids = {}, objects[ADDED]
        extra = extra or old.get("extra_special_tokens") or old.get("additional_special_tokens") or []
    custom = {k: x for k, x in {**fields, **old}.items() if k.endswith("_token") and k not in NAMES}
    first = {k: x for k, x in custom.items() if isinstance(x, dict) or (k in old and isinstance(x, str))}
    further = (
        first | {k: x for k, x in custom.items() if isinstance(x, str)} | (extra if isinstance(extra, dict) else {})
    )
    named = {k: old.get(k, fields.get(k)) for k in NAMES if k in old or k in fields} | further
    place = {k: f"{folder / (SPECIAL if k in old else CONFIG)}: {k}" for k in named}
    tokens = {k: None if x is None else _token(x, place[k]) for k, x in named.items()}
    extra = [] if isinstance(extra, dict) else extra
    if not isinstance(extra, list):
        raise UserError(f"{folder / CONFIG}: extra_special_tokens is {shown(repr(extra))}; expected a list of tokens")
    others = [_token(x, f"{folder / CONFIG}: extra_special_tokens") for x in extra]
    special = {x.content for x in (*(tokens.get(k) for k in NAMES), *others) if x is not None}
    found = {i: _token(x, f"{folder / CONFIG}: added_tokens_decoder", special=False) for i, x in added.items()}
    for content, i in ids.items():
        is_special = content in special
        found[_id(i, folder / ADDED)] = tokenizers.AddedToken(content, special=is_special, normalized=not is_special)
    by_content = {x.content: x for x in found.values()}
    return SpecialTokens({k: x and by_content.get(x.content, x) for k, x in tokens.items()}, others, found)


def _token(x: Any, name: str, special: bool = True) -> tokenizers.AddedToken:
    """A token of a string, or of an object with `content` and flags."""
    if isinstance(x, str):
        return tokenizers.AddedToken(x, special=special)
    flags = {k: x[k] for k in _FLAGS if k in x} if isinstance(x, dict) else {}
    if not (
        isinstance(x, dict) and isinstance(x.get("content"), str) and all(isinstance(f, bool) for f in flags.values())
    ):
        raise UserError(f"{name} is {shown(repr(x))}; expected a token")
    flags = {"normalized": True} | flags | ({"special": True} if special else {})
    return tokenizers.AddedToken(x["content"], **flags)


def _id(x: Any, path: pathlib.Path) -> int:
    """An id, which `added_tokens_decoder` has as text."""
    if isinstance(x, str) and x.isascii() and x.isdigit() and len(x) < 11:
        x = int(x)
    if not isinstance(x, int) or isinstance(x, bool) or not 0 <= x < 2**31:
        raise UserError(f"{path} has an added token with id {shown(repr(x))}; expected a whole number, 0 or above")
    return x


def _object(x: Any, folder: pathlib.Path) -> dict[str, Any]:
    if not isinstance(x, dict):
        raise UserError(f"{folder / CONFIG}: added_tokens_decoder is {shown(repr(x))}; expected an object")
    return x
