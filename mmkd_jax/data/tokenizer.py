"""Tokenizers, on the host: those of pretrained text encoders, and small ones learned from texts."""

import dataclasses
import hashlib
import json
import pathlib
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from mmkd_jax.data.dataset import Dataset
from mmkd_jax.errors import UserError, choices

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
        self.tokenizer.no_truncation()
        self.rules = self.tokenizer.to_str()
        self.cutting: dict[int, tokenizers.Tokenizer] = {}  # one a length: threads may ask for several at a time
        named = settings.get("pad_token")
        named = self.tokenizer.token_to_id(named["content"] if isinstance(named, dict) else named) if named else None
        self.padding = padding if named is None else named

    @property
    def vocabulary(self) -> int:
        """Number of ids."""
        return self.tokenizer.get_vocab_size()

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """What its ids depend on, besides the texts and their length."""
        rules = hashlib.sha256(self.rules.encode()).hexdigest()
        return {"rules": rules, "padding": self.padding, "whole": self.whole}

    def __call__(
        self,
        texts: Sequence[str | bytes],
        pairs: Sequence[str | bytes] | None = None,
        *,
        length: int | None = None,
        pad: bool = False,
        cut: bool = True,
        warn: bool = True,
    ) -> dict[str, np.ndarray]:
        """Ids [n, l] and mask [n, l] of each text.

        Args:
            texts: n strings, or UTF-8 bytes.
            pairs: a second string for each, behind the first.
            length: longest, in tokens; the model's own, if None.
            pad: give l = length; else l is that of the longest text.
            cut: cut longer texts; else refuse them.
            warn: say how many were cut.

        Raises:
            UserError: one string in the place of many, something else than a string, bytes that are no UTF-8, a longer
                length than the model has positions, or a longer text that is not to be cut.
        """
        if isinstance(texts, str | bytes):
            raise UserError(f"{self.modality}: one text, {texts[:20]!r}, in the place of several: put it in a list")
        longest = self.length if length is None else length
        if longest > self.length:
            raise UserError(f"length={longest}: this model takes at most {self.length} tokens")
        if longest not in self.cutting:
            made = tokenizers.Tokenizer.from_str(self.rules)
            made.enable_truncation(longest)
            self.cutting[longest] = made
        told, second = (list(_decoded(each, self.modality)) for each in (texts, pairs or ()))
        told = told if pairs is None else list(zip(told, second, strict=True))
        found = self.cutting[longest].encode_batch(told)
        if long := [i for i, e in enumerate(found) if e.overflowing]:
            said = f"{len(long)} of {len(found)} texts have more than {longest} tokens, the first is row {long[0]}"
            if not cut:
                raise UserError(f"{said}: raise length, or cut them (cut=True)")
            if warn:
                warnings.warn(f"{said}: they are cut", stacklevel=2)
        width = longest if pad or self.whole else max((len(e) for e in found), default=0)
        ids = np.full((len(found), width), self.padding, np.int32)
        types, mask = np.zeros_like(ids), np.zeros(ids.shape, bool)
        for i, e in enumerate(found):
            ids[i, : len(e)], types[i, : len(e)], mask[i, : len(e)] = e.ids, e.type_ids, True
        columns = {f"{self.modality}.ids": ids, f"{self.modality}.mask": mask | self.whole}
        return columns | ({f"{self.modality}.types": types} if self.types and pairs is not None else {})


def _decoded(texts, modality):
    """Strings; what is none is named."""
    for row, x in enumerate(texts):
        try:
            text = x.decode() if isinstance(x, bytes) else x
        except UnicodeDecodeError:
            text = None
        if not isinstance(text, str):
            raise UserError(f"{modality}: row {row} is {x!r}; expected a string, or UTF-8 bytes")
        yield text


def learned(texts: Sequence[str | bytes], size: int, length: int, modality: str = "text") -> Tokenizer:
    """A tokenizer of whole words for a small student, its vocabulary learned from texts: those of training only.

    Lower case, without accents, each punctuation mark a word of its own. Ids: 0 padding, 1 any other word, then the
    words from the most frequent on. A word seen once is left out: so the model meets unknown words in training, too.

    Args:
        texts: strings, or UTF-8 bytes.
        size: largest number of ids.
        length: longest text in tokens.
        modality: how the batch's columns begin.

    Example:
        >>> words = learned(["a good day", "a bad day"], size=100, length=8)
        >>> words.vocabulary, words(["A bad, bad day!"])["text.ids"].tolist()
        (4, [[2, 1, 1, 1, 3, 1]])
    """
    made = tokenizers.Tokenizer(models.WordLevel(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(strip_accents=True, lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]"]
    trainer = trainers.WordLevelTrainer(vocab_size=size, min_frequency=2, special_tokens=special, show_progress=False)
    made.train_from_iterator(_decoded(texts, modality), trainer)
    with tempfile.TemporaryDirectory() as folder:
        made.save(str(pathlib.Path(folder) / "tokenizer.json"))
        return Tokenizer(pathlib.Path(folder), length, 0, modality)


def tokenized(dataset: Dataset, lengths: Mapping[Any, int], column: str = "text") -> Dataset:
    """A data set's texts as its models read them: ids and mask of each tokenizer, when rows are read.

    Args:
        dataset: with texts in a column: strings, or UTF-8 bytes as `load` gives them.
        lengths: `Tokenizer`s, each with the length to which its rows are cut or padded; its `modality` names the
            columns, so that two models may read the same text by tokenizers of their own. With none, the texts are
            only left out.
        column: the texts.

    Returns:
        The same rows, with `MODALITY.ids` and `MODALITY.mask` in the place of all columns of texts.

    Raises:
        UserError: no such column, a length that a tokenizer's model does not take, or two of one modality.

    Example:
        >>> from mmkd_jax.data import from_columns
        >>> texts = np.array(["a good day", "a bad day"])
        >>> words = learned(texts.tolist(), size=100, length=8, modality="words")
        >>> tokenized(from_columns({"text": texts}, "days"), {words: 3}).columns["words.ids"].tolist()
        [[2, 1, 3], [2, 1, 3]]
    """
    texts = {k for k, s in dataset.spec.items() if s.dtype.kind in "SUO"}
    if column not in texts:
        raise UserError(f"no column {column!r} of texts; there are: {choices(texts)}")
    spec = {k: s for k, s in dataset.spec.items() if k not in texts}
    for tokenizer, length in lengths.items():
        for k, x in tokenizer([], length=length, pad=True).items():
            if k in spec:
                raise UserError(f"there are two columns {k!r}: give each tokenizer a modality of its own")
            spec[k] = jax.ShapeDtypeStruct(x.shape[1:], x.dtype)

    def fetch(rows):
        columns = dataset.take(rows)
        told = columns[column].tolist()
        ids = [tokenizer(told, length=length, pad=True, warn=False) for tokenizer, length in lengths.items()]
        return {k: x for own in (columns, *ids) for k, x in own.items() if k not in texts}

    how = {t.modality: {**t.fingerprint, "column": column, "length": length} for t, length in lengths.items()}
    return dataclasses.replace(dataset, spec=spec, fetch=fetch, fingerprint={**dataset.fingerprint, "tokens": how})


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
