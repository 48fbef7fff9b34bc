"""Tokenizers that only transformers reads: sentencepiece models, vocab.json with merges.txt, and those in Python."""

import dataclasses
import hashlib
import json
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mmkd_jax import child_process, foreign_files, looks_like
from mmkd_jax.data import sentencepiece_file, with_transformers
from mmkd_jax.errors import UserError, shown

JSON = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
VOCABULARIES = ("vocab.txt", "vocab.json", "merges.txt", "bpe.codes")
VOCABULARIES += ("sentencepiece.bpe.model", "spiece.model", "spm.model", "tokenizer.model")
_CONFIG = "tokenizer_config.json"
_NEEDED = {"clip": "vocab.json", "roberta": "vocab.json", "siglip": "spiece.model"}
_NEEDED |= {"xlm-roberta": "sentencepiece.bpe.model"}
"""model_type -> vocabulary of its tokenizer if no class is named, so that transformers need not be asked."""
_IGNORED = ("init_inputs", "vocab", "merges", "name_or_path")


class Converted(NamedTuple):
    """A tokenizer that transformers has read.

    Attributes:
        rules: content of its tokenizer.json; None if it exists in Python only.
        padding: its padding id, if it has one.
    """

    rules: str | None
    padding: int | None


def convert(
    folder: pathlib.Path, files: Mapping[str, bytes], config: Mapping[str, Any], limits: child_process.Limits
) -> Converted:
    """Read a tokenizer with transformers, in a child process.

    Args:
        folder: model folder, used in messages.
        files: name -> content of its tokenizer files.
        config: its config.json, by which transformers chooses the class.
        limits: bounds of the child process, which has 20 seconds more, from when it has imported transformers.

    Raises:
        UserError: a sentencepiece model is damaged; or transformers cannot read the tokenizer, which may need code of
            its author or exceed the limits.
    """
    fields = foreign_files.json_object(files.get(_CONFIG, b"{}"), folder / _CONFIG)
    if fields.get("auto_map") or fields.get("sp_model_kwargs"):
        name = "auto_map" if fields.get("auto_map") else "sp_model_kwargs"
        why = "which is code of its author" if name == "auto_map" else "which may draw at random"
        raise UserError(f"{folder / _CONFIG} has {name}, {why}: it is not supported")
    needed = None if fields.get("tokenizer_class") else _NEEDED.get(str(config.get("model_type")))
    if needed and not {needed, "tokenizer.model"} & set(files):
        raise UserError(f"{folder} has no {needed}, which a tokenizer of {config['model_type']} reads: fetch it")
    for name, content in files.items():
        if name.endswith(".model") and not sentencepiece_file.is_whole(content):
            what = looks_like.not_downloaded(content) or "is no sentencepiece model, or is cut off: fetch it again"
            raise UserError(f"{folder / name} {what}")
    with tempfile.TemporaryDirectory() as place:
        write(pathlib.Path(place), files, config)
        found = with_transformers.ask("tokenizer_conversion.py", place.encode(), f"the tokenizer in {folder}", limits)
    if "refused" in found:
        reason = shown(found["refused"].replace(place, "FOLDER"), 300)
        raise UserError(f"the tokenizer in {folder} is damaged, or transformers cannot read it ({reason}): fetch it "
                        "again, or create its tokenizer.json")  # fmt: skip
    return Converted(found["tokenizer"], found["padding"])


def load(files: Mapping[str, bytes], config: Mapping[str, Any]) -> "PythonTokenizer":
    """Load a tokenizer that exists in Python only, and that `convert` has read.

    Args:
        files: name -> content of its tokenizer files.
        config: the model's config.json.
    """
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as place:
        write(pathlib.Path(place), files, config)
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False, local_files_only=True)
    return PythonTokenizer(tokenizer, files)


class PythonTokenizer:
    """Tokenizer of transformers that exists in Python only, with the methods of `tokenizers.Tokenizer` that are used.

    Args:
        tokenizer: tokenizer of transformers.
        files: name -> content of its files.
        longest: length to which `encode_batch` truncates; None for no limit.
        lowercase: lowercase texts first.
    """

    def __init__(self, tokenizer: Any, files: Mapping[str, bytes], longest: int | None = None, lowercase: bool = False):
        self.tokenizer, self.files, self.longest, self.lowercase = tokenizer, files, longest, lowercase

    def truncated(self, longest: int) -> "PythonTokenizer":
        """Return the tokenizer with another length."""
        return PythonTokenizer(self.tokenizer, self.files, longest, self.lowercase)

    def to_str(self) -> str:
        """Return what identifies the rules."""
        import transformers

        content = {name: hashlib.sha256(x).hexdigest() for name, x in sorted(self.files.items())}
        kind = type(self.tokenizer).__name__
        rules = {"class": kind, "transformers": transformers.__version__, "files": content}
        return json.dumps(rules | ({"lowercase": True} if self.lowercase else {}))

    def get_vocab(self) -> dict[str, int]:
        """Return token -> id."""
        return self.tokenizer.get_vocab()

    def get_vocab_size(self) -> int:
        """Return the number of tokens."""
        return len(self.tokenizer)

    def encode_batch(self, inputs: Sequence[str | tuple[str, str]], add_special_tokens: bool = True) -> "list[Encoded]":
        """Tokenize texts, or pairs of texts."""
        how = {"return_token_type_ids": True, "verbose": False, "add_special_tokens": add_special_tokens}
        return [self._encode(*((x,) if isinstance(x, str) else x), **how) for x in inputs]

    def _encode(self, *texts, **how):
        texts = [text.lower() for text in texts] if self.lowercase else texts
        whole = self.tokenizer(*texts, **how)
        long = self.longest is not None and len(whole["input_ids"]) > self.longest
        if long:
            whole = self.tokenizer(*texts, truncation=True, max_length=self.longest, **how)
        return Encoded(list(whole["input_ids"]), list(whole["token_type_ids"]), long)


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Tokens of one text, or pair of texts.

    Attributes:
        ids: token ids.
        type_ids: 0 for the first text, 1 for the second.
        overflowing: whether it was truncated.
    """

    ids: list[int]
    type_ids: list[int]
    overflowing: bool

    def __len__(self) -> int:
        return len(self.ids)


def write(place: pathlib.Path, files: Mapping[str, bytes], config: Mapping[str, Any]) -> None:
    """Write a tokenizer's folder for transformers, without fields that name other files.

    Args:
        place: an empty folder.
        files: name -> content of its tokenizer files.
        config: the model's config.json.
    """
    for name in set(files) & {*VOCABULARIES, *JSON}:
        (place / name).write_bytes(files[name])
    (place / "config.json").write_text(json.dumps(_harmless(config)))
    fields = foreign_files.json_object(files.get(_CONFIG, b"{}"), _CONFIG)
    (place / _CONFIG).write_text(json.dumps(_harmless(fields)))


def _harmless(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {k: x for k, x in fields.items() if k not in (*_IGNORED, "auto_map") and not k.endswith(("_file", "_files"))}
