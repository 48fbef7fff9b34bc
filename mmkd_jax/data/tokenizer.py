"""Tokenizers on the host: those of pretrained text encoders, and word-level ones trained on texts."""

import dataclasses
import hashlib
import json
import pathlib
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from mmkd_jax import child_process, foreign_files
from mmkd_jax.data import chat, other_tokenizers, text, tokenizer_overrides, tokenizer_settings, word_piece
from mmkd_jax.data.tokenizer_settings import TokenizerSettings
from mmkd_jax.errors import UserError
from mmkd_jax.typing import Count

FILES = (*other_tokenizers.JSON, *other_tokenizers.VOCABULARIES)
_CONFIG = "tokenizer_config.json"
_LARGEST = 2**28
_PROBE = pathlib.Path(__file__).with_name("tokenizer_probe.py")


class Tokenizer:
    """Tokenizer of a published model: texts to `text.ids`, `text.mask` and, for pairs, `text.types`.

    Args:
        folder: model folder with tokenizer.json, or with vocab.txt (WordPiece); others are read with transformers.
        length: maximum text length in tokens, including special tokens.
        padding: padding id if the folder does not name a padding token.
        modality: prefix of the batch columns.
        types: add token types for pairs of texts.
        whole: pad all texts to `length` and leave the padding unmasked, as SigLIP was trained.
        rows: number of the model's token embeddings, which all ids must be below; None skips the check.
        limits: bounds of the child processes that first read tokenizer.json, whose regular expressions may take for
            ever, files that need transformers, and chat templates; None for a tokenizer.json that needs no such test.
        longest: maximum text length that replaces the tokenizer's own; `length` bounds it too.
        lowercase: lowercase texts before the tokenizer's own normalization.

    Raises:
        UserError: the folder has no tokenizer; or its tokenizer is damaged, exceeds the limits, or pads a model that
            attends to padding on the left.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        length: int,
        padding: int,
        modality: str = "text",
        types: bool = False,
        whole: bool = False,
        rows: int | None = None,
        limits: child_process.Limits | None = child_process.DEFAULT,
        longest: int | None = None,
        lowercase: bool = False,
    ):
        self.modality, self.types, self.whole, self.lowercase = modality, types, whole, lowercase
        self.files: dict[str, bytes] = {
            n: foreign_files.read_bytes(folder / n, _LARGEST) for n in FILES if (folder / n).exists()
        } | chat.read_files(folder)
        path = folder / "config.json"
        self.folder, self.limits = folder, limits or child_process.DEFAULT
        self.config = foreign_files.read_json(path) if path.exists() else {}
        settings = tokenizer_settings.read(folder, self.files.get(_CONFIG, b"{}"))
        if whole and settings.padding_side == "left":
            raise UserError(
                f"{folder}/tokenizer_config.json asks for padding on the left, but the model was trained with padding "
                "on the right, which it attends to: set padding_side to 'right'"
            )
        self.length = int(min(length, longest or settings.model_max_length or length))
        self.settings = settings
        try:
            self.tokenizer, named = self._load(folder, limits, rows)
        except UserError:
            raise
        except Exception as error:  # tokenizers raises plain Exception
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"the tokenizer in {folder} is damaged ({reason}): fetch it again") from error
        if settings.lowercase or lowercase:
            self.tokenizer = _lowercased(self.tokenizer)
        self.rules = self.tokenizer.to_str()
        self.cutting: dict[int, Any] = {}  # one per length: threads may use several at a time
        self.padding = padding if named is None else named
        largest = max(self.padding, *self.tokenizer.get_vocab().values())
        if rows is not None and largest >= rows:
            raise UserError(
                f"the tokenizer in {folder} has ids up to {largest}, but the model has {rows} token embeddings: fetch "
                "both of the same model"
            )

    def _load(self, folder, limits, rows) -> tuple[Any, int | None]:
        """The tokenizer, and the id of the padding token that the folder names."""
        settings, config = self.settings, self.config
        padding, kind = None, settings.kind or config.get("tokenizer_class")
        if not settings.kind and isinstance(kind, str):  # a saved folder has another config.json
            fields = foreign_files.json_object(self.files.get(_CONFIG, b"{}"), folder / _CONFIG)
            self.files[_CONFIG] = json.dumps(fields | {"tokenizer_class": kind}, indent=2).encode()
        if "tokenizer.json" in self.files:
            name, rules = folder / "tokenizer.json", self.files["tokenizer.json"]
        elif "vocab.txt" in self.files and word_piece.is_class(kind, config):
            if settings.others:
                raise UserError(
                    f"{folder}: vocab.txt of a tokenizer with {settings.others} is not supported: create its "
                    "tokenizer.json with transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(…)"
                )
            tokenizer, pad = word_piece.build(folder, self.files, settings, rows)
            return tokenizer, tokenizer.token_to_id(pad) if pad else None
        elif set(self.files) & set(other_tokenizers.VOCABULARIES):
            converted = other_tokenizers.convert(folder, self.files, config, self.limits)
            padding = converted.padding
            if converted.rules is None:
                return other_tokenizers.load(self.files, config), padding
            name, rules = f"the tokenizer in {folder}", converted.rules.encode()
        else:
            raise UserError(
                f"{folder} has no tokenizer.json: fetch it, or create it once with transformers: "
                "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
            )
        if limits is not None:
            child_process.run(_PROBE, rules, str(name), limits)
        tokenizer = tokenizers.Tokenizer.from_str(rules.decode())
        tokenizer.no_padding()  # a published file may enable padding and truncation
        tokenizer.no_truncation()
        if "tokenizer.json" in self.files:
            model = kind or config.get("model_type")
            tokenizer_overrides.apply(tokenizer, folder, self.files, settings, model, rows)
        named = tokenizer.token_to_id(settings.pad_token) if settings.pad_token else None
        return tokenizer, padding if named is None else named

    def _cutting(self, longest):
        """The tokenizer that truncates to a length."""
        if isinstance(self.tokenizer, other_tokenizers.PythonTokenizer):
            return self.tokenizer.truncated(longest)
        truncating = tokenizers.Tokenizer.from_str(self.rules)
        truncating.enable_truncation(longest, direction=self.settings.truncation_side)
        truncating.encode_special_tokens = self.settings.split_special_tokens
        return truncating

    @property
    def vocabulary(self) -> int:
        """Vocabulary size."""
        return self.tokenizer.get_vocab_size()

    def saved_files(self) -> dict[str, bytes]:
        """Return the files of a folder of which `Tokenizer`, with equal arguments, makes an equal tokenizer.

        Its tokenizer.json has the changes that other files of the model folder asked for, so that they are not needed.
        """
        if isinstance(self.tokenizer, other_tokenizers.PythonTokenizer):
            return {**self.files, "config.json": json.dumps(self.config).encode()}
        how = {k: getattr(self.settings, k) for k in ("truncation_side", "split_special_tokens")}
        return {"tokenizer.json": self.rules.encode(), _CONFIG: json.dumps(how).encode()}

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """Identity of the tokenization: rules, padding and, other than by default, how texts are cut."""
        rules, settings = hashlib.sha256(self.rules.encode()).hexdigest(), self.settings
        others = {"truncation_side": settings.truncation_side, "split_special_tokens": settings.split_special_tokens}
        others = {
            k: x for k, x in others.items() if x != TokenizerSettings._field_defaults[k]
        }  # as it was without them
        return {"rules": rules, "padding": self.padding, "whole": self.whole, **others}

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
        """Tokenize texts to ids [n, l] and mask [n, l].

        Args:
            texts: n strings, or UTF-8 bytes.
            pairs: second text of each pair, appended to the first.
            length: maximum length in tokens; None for the model's maximum.
            pad: pad to l = length; if False, l is the length of the longest text.
            cut: truncate longer texts; if False, raise an error.
            warn: warn about the number of truncated texts.

        Raises:
            UserError: a single string instead of a sequence, an element that is not a string, invalid UTF-8, a length
                above the model's maximum, or a text longer than `length` with `cut=False`.
        """
        if isinstance(texts, str | bytes):
            raise UserError(f"{self.modality}: expected a sequence of texts, got {texts[:20]!r}: put it in a list")
        inputs, second = (list(text.decoded(each, self.modality)) for each in (texts, pairs or ()))
        inputs = inputs if pairs is None else list(zip(inputs, second, strict=True))
        encodings = self._encoded(inputs, length, cut, warn)
        columns = self._columns(encodings, length, pad)
        types = np.zeros_like(columns[f"{self.modality}.ids"])
        for row, e in zip(types, encodings, strict=True):
            row[: len(e)] = e.type_ids
        return columns | ({f"{self.modality}.types": types} if self.types and pairs is not None else {})

    def chat(
        self,
        conversations: Sequence[Sequence[Mapping[str, str]]],
        *,
        template: str | None = None,
        start: bool = False,
        answers: bool = False,
        length: int | None = None,
        pad: bool = False,
        cut: bool = True,
        warn: bool = True,
    ) -> dict[str, np.ndarray]:
        """Tokenize conversations to ids [n, l] and mask [n, l], with the chat template of the folder.

        transformers renders each of them to a text, in a child process for all of them; special tokens are those of
        the text, and are read there also if a message contains them.

        Args:
            conversations: n lists of messages, {"role": …, "content": …}, whose values are strings.
            template: name of the template, if there are several; None for "default".
            start: add the start of an answer, which a model is to continue.
            answers: add the column `answers` [n, l], True for tokens of the assistant's answers; the template must mark
                them with {% generation %}.
            length: maximum length in tokens; None for the model's maximum.
            pad: pad to l = length; if False, l is the length of the longest text.
            cut: truncate longer texts; if False, raise an error.
            warn: warn about the number of truncated texts.

        Raises:
            UserError: the folder has no chat template, or none of this name; a message has no role or content; the
                template refuses a conversation or exceeds the limits; an error of a call with texts; or `answers` of a
                template that does not mark them, or of a tokenizer that exists in Python only or drops characters.
        """
        if answers and isinstance(self.tokenizer, other_tokenizers.PythonTokenizer):
            raise UserError(f"{self.modality}: answers=True; this tokenizer, in Python, does not locate its tokens")
        how = (template, start, answers, self.modality, self.limits)
        rendered = chat.render(self.folder, self.files, self.config, conversations, *how)
        texts = list(text.decoded([x.text for x in rendered], self.modality))
        encodings = self._encoded(texts, length, cut, warn, special=False)
        columns = self._columns(encodings, length, pad)
        if not answers:
            return columns
        said = np.zeros_like(columns[f"{self.modality}.mask"])
        for i, (row, e, x) in enumerate(zip(said, encodings, rendered, strict=True)):
            ends = [b for piece in (e, *e.overflowing) for _, b in piece.offsets]
            if max(ends, default=0) < len(x.text.rstrip()):
                why = f"the tokenizer drops characters of conversation {i}, so that its tokens cannot be located"
                raise UserError(f"{self.modality}: answers=True, but {why}: remove answers=True")
            for first, last in x.spans:
                row[: len(e)] |= [a < last and first < b for a, b in e.offsets]
        return columns | {f"{self.modality}.answers": said}

    def encodings(self, texts: Sequence[str], length: int) -> Sequence[Any]:
        """Return the tokens of each text with their places in it, cut at a length, as `tokenizers.Encoding`."""
        return self._encoded(list(texts), length, True, False)

    def _encoded(self, inputs, length, cut, warn, special=True):
        """Tokens of each input, truncated to the length."""
        longest = self.length if length is None else length
        if longest > self.length:
            raise UserError(f"length={longest}: this model supports at most {self.length} tokens")
        if longest not in self.cutting:
            self.cutting[longest] = self._cutting(longest)
        try:
            encodings = self.cutting[longest].encode_batch(inputs, add_special_tokens=special)
        except BaseException as error:  # plain Exception; or a panic of Rust, as of a regular expression that gives up
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise UserError(f"{self.modality}: the tokenizer cannot encode a text ({error})") from None
        if long := [i for i, e in enumerate(encodings) if e.overflowing]:
            problem = f"{len(long)} of {len(encodings)} texts have more than {longest} tokens, first in row {long[0]}"
            if not cut:
                longer = "increase length" if longest < self.length else "split them"
                raise UserError(f"{problem}: {longer}, or truncate them (cut=True)")
            if warn:
                warnings.warn(f"{problem}: they are truncated", stacklevel=3)
        return encodings

    def _columns(self, encodings, length, pad):
        """Columns of ids and mask."""
        longest = self.length if length is None else length
        width = longest if pad or self.whole else max((len(e) for e in encodings), default=0)
        ids = np.full((len(encodings), width), self.padding, np.int32)
        mask = np.zeros(ids.shape, bool)
        for i, e in enumerate(encodings):
            ids[i, : len(e)], mask[i, : len(e)] = e.ids, True
        return {f"{self.modality}.ids": ids, f"{self.modality}.mask": mask | self.whole}


def _lowercased(tokenizer: Any) -> Any:
    """Return a tokenizer that lowercases texts first, as sentence-transformers asks."""
    if isinstance(tokenizer, other_tokenizers.PythonTokenizer):
        return other_tokenizers.PythonTokenizer(tokenizer.tokenizer, tokenizer.files, tokenizer.longest, True)
    normalizer: Any = tokenizer.normalizer
    each = normalizer if isinstance(normalizer, normalizers.Sequence) else [normalizer]
    if not any(isinstance(x, normalizers.Lowercase) for x in each):
        others = [] if normalizer is None else [normalizer]
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *others])
    return tokenizer


def train_tokenizer(
    texts: Sequence[str | bytes],
    size: int,
    length: int,
    modality: str = "text",
    *,
    split: Literal["punctuation", "spaces"] = "punctuation",
    suffix: Count | None = None,
) -> Tokenizer:
    """Train a word-level tokenizer for a small student; pass the training texts only.

    Texts are lowercased. Ids: 0 padding, 1 unknown word, then the words by decreasing frequency. Words that occur only
    once are excluded, so that the model also sees unknown words in training.

    Args:
        texts: strings, or UTF-8 bytes.
        size: maximum vocabulary size.
        length: maximum text length in tokens.
        modality: prefix of the batch columns.
        split: "punctuation": accents are removed, and each punctuation mark is a separate token; "spaces": one token
            for each word between white space, as a tagger needs them.
        suffix: tokens are the last letters of the words, at most this many, instead of the words; with
            `split="spaces"`.

    Raises:
        UserError: `suffix` without `split="spaces"`.

    Example:
        >>> words = train_tokenizer(["a good day", "a bad day"], size=100, length=8)
        >>> words.vocabulary, words(["A bad, bad day!"])["text.ids"].tolist()
        (4, [[2, 1, 1, 1, 3, 1]])
        >>> ends = train_tokenizer(["singing, dancing", "I'm singing"], 9, 8, "ends", split="spaces", suffix=3)
        >>> ends(["Dancing is good"])["ends.ids"].tolist()
        [[2, 1, 1]]
    """
    if split not in ("punctuation", "spaces") or (suffix is not None and split != "spaces"):
        raise UserError(f"train_tokenizer: split={split!r}, suffix={suffix}; expected split='spaces' for suffixes")
    tokenizer = tokenizers.Tokenizer(models.WordLevel(unk_token="[UNK]"))
    if split == "spaces":  # all else could add or remove words
        ends = [] if suffix is None else [normalizers.Replace(tokenizers.Regex(rf"\S+(?=\S{{{suffix}}})"), "")]
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *ends])
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    else:
        tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=True, lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]"]
    trainer = trainers.WordLevelTrainer(vocab_size=size, min_frequency=2, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(text.decoded(texts, modality), trainer)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(str(pathlib.Path(folder) / "tokenizer.json"))
        return Tokenizer(pathlib.Path(folder), length, 0, modality, limits=None)


@dataclasses.dataclass(frozen=True)
class NoTokenizer:
    """In place of a tokenizer that a folder lacks: it raises the error when called.

    Attributes:
        error: what is missing.
        padding: padding id of the model.
    """

    error: UserError
    padding: int

    def __call__(self, *args: Any, **more: Any) -> dict[str, np.ndarray]:
        """Raise the error."""
        raise self.error


def optional(folder: pathlib.Path, length: int, padding: int, **keywords: Any) -> Callable[..., dict[str, np.ndarray]]:
    """Return a folder's tokenizer or, if it has none, a function that raises the error when called.

    A folder without a tokenizer still has usable weights.

    Args:
        folder: model folder.
        length: maximum text length in tokens.
        padding: padding id if the folder does not name a padding token.
        keywords: further arguments of `Tokenizer`.
    """
    try:
        return Tokenizer(folder, length, padding, **keywords)
    except UserError as error:
        return NoTokenizer(error, padding)
