"""Subword tokenizers of pretrained text encoders, on the host: strings to ids and masks."""

import json
import pathlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers

from mmkd_jax.errors import UserError

FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "vocab.json", "merges.txt")


class Tokenizer:
    """Texts to `text.ids`, `text.mask` and, for pairs, `text.types`, as the published tokenizer makes them.

    Args:
        folder: of the model, with tokenizer.json, or with vocab.txt (WordPiece).
        length: longest text in tokens, those at its ends included.
        padding: id of the padding where the folder does not name a token for it.
        modality: how the batch's columns begin.
        types: whether pairs of texts have token types.
        whole: whether all texts are padded to that length and the padding is seen, as SigLIP learned them.

    Raises:
        UserError: the folder has no tokenizer, or a damaged one.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        length: int,
        padding: int,
        modality: str = "text",
        types: bool = False,
        whole: bool = False,
    ):
        self.modality, self.types, self.whole = modality, types, whole
        self.files: Mapping[str, bytes] = {n: (folder / n).read_bytes() for n in FILES if (folder / n).is_file()}
        settings = json.loads(self.files.get("tokenizer_config.json", b"{}"))
        self.length = int(min(length, settings.get("model_max_length") or length))
        try:
            if "tokenizer.json" in self.files:
                self.tokenizer = tokenizers.Tokenizer.from_str(self.files["tokenizer.json"].decode())
            elif "vocab.txt" in self.files:
                lower = settings.get("do_lower_case", True)
                strip = settings.get("strip_accents")
                vocabulary = {w: i for i, w in enumerate(self.files["vocab.txt"].decode().splitlines())}
                self.tokenizer = tokenizers.BertWordPieceTokenizer(vocabulary, lowercase=lower, strip_accents=strip)
            else:
                raise UserError(
                    f"{folder} has no tokenizer.json: fetch it, or write it once with transformers, "
                    "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
                )
        except UserError:
            raise
        except Exception as error:  # the library raises Exception itself
            raise UserError(f"the tokenizer in {folder} is damaged ({error}): fetch it again") from error
        self.tokenizer.no_padding()  # a published file may have its own built in
        named = settings.get("pad_token")
        named = self.tokenizer.token_to_id(named["content"] if isinstance(named, dict) else named) if named else None
        self.padding = padding if named is None else named

    def __call__(
        self,
        texts: Sequence[str | bytes],
        pairs: Sequence[str | bytes] | None = None,
        *,
        length: int | None = None,
        pad: bool = False,
        cut: bool = True,
    ) -> dict[str, np.ndarray]:
        """Ids [n, l] and mask [n, l] of each text.

        Args:
            texts: n strings, or UTF-8 bytes.
            pairs: a second string for each, behind the first.
            length: longest, in tokens; the model's own, if None.
            pad: give l = length; else l is that of the longest text.
            cut: cut longer texts, with a warning; else refuse them.

        Raises:
            UserError: one string in the place of many, a longer length than the model has positions, or a longer text
                that is not to be cut.
        """
        if isinstance(texts, str | bytes):
            raise UserError(f"{self.modality}: one text, {texts[:20]!r}, in the place of several: put it in a list")
        longest = self.length if length is None else length
        if longest > self.length:
            raise UserError(f"length={longest}: this model takes at most {self.length} tokens")
        self.tokenizer.enable_truncation(longest)
        told, second = ([_text(t) for t in each] for each in (texts, pairs or ()))
        found = self.tokenizer.encode_batch(told if pairs is None else list(zip(told, second, strict=True)))
        if long := [i for i, e in enumerate(found) if e.overflowing]:
            said = f"{len(long)} of {len(found)} texts have more than {longest} tokens, the first is row {long[0]}"
            if not cut:
                raise UserError(f"{said}: raise length, or cut them (cut=True)")
            warnings.warn(f"{said}: they are cut", stacklevel=2)
        width = longest if pad or self.whole else max((len(e) for e in found), default=0)
        ids = np.full((len(found), width), self.padding, np.int32)
        types, mask = np.zeros_like(ids), np.zeros(ids.shape, bool)
        for i, e in enumerate(found):
            ids[i, : len(e)], types[i, : len(e)], mask[i, : len(e)] = e.ids, e.type_ids, True
        columns = {f"{self.modality}.ids": ids, f"{self.modality}.mask": mask | self.whole}
        return columns | ({f"{self.modality}.types": types} if self.types and pairs is not None else {})


def _text(x):
    return x.decode() if isinstance(x, bytes) else str(x)


def optional(folder: pathlib.Path, *arguments: Any, **keywords: Any) -> Callable[..., dict[str, np.ndarray]]:
    """A folder's tokenizer; where it has none, what says so when it is called: the weights are of use without.

    Args:
        folder: of the model.
        arguments: of `Tokenizer`.
        keywords: of `Tokenizer`.
    """
    try:
        return Tokenizer(folder, *arguments, **keywords)
    except UserError as error:
        told = error

    def refuse(*args: Any, **more: Any) -> dict[str, np.ndarray]:
        raise told

    return refuse
