"""Columns of a data set that tokenizers make from its texts, as rows are read."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from mmkd_jax.data import text
from mmkd_jax.data.dataset import Dataset
from mmkd_jax.data.preprocess.preprocessing import followed
from mmkd_jax.data.preprocess.tokenize import Tokenize
from mmkd_jax.data.preprocess.tokenize_words import TokenizeWords
from mmkd_jax.data.tokenizer import Tokenizer
from mmkd_jax.data.words import first_tokens
from mmkd_jax.errors import UserError, choices


def tokenize(
    dataset: Dataset,
    lengths: Mapping[Any, int],
    column: str | Mapping[str, str] = "text",
    words: Mapping[Any, int] | None = None,
) -> Dataset:
    """Tokenize a data set's texts lazily, with one or several tokenizers.

    The steps are declared in `preprocess`, so that a student takes its tokenizer along.

    Args:
        dataset: data set with a text column: strings, or UTF-8 bytes as returned by `load`.
        lengths: `Tokenizer` -> length to which its rows are truncated or padded. The tokenizer's `modality` is the
            prefix of its columns, so two models can use different tokenizers for the same text. If empty, text columns
            are only removed.
        column: name of the text column; or, for several, modality of each tokenizer -> its text column, such as
            {"question": "question", "answer": "answer"}.
        words: tokenizer -> number of words, separated by white space, whose first tokens are `MODALITY.words`: a
            `models.Tagger` then has one token for each word.

    Returns:
        The data set with `MODALITY.ids` and `MODALITY.mask` replacing all text columns.

    Raises:
        UserError: a column does not exist, a tokenizer has none, a length exceeds a tokenizer's maximum, or two
            tokenizers have the same modality. When rows are read: a text has more words than `words`, or one beyond its
            tokens.

    Example:
        >>> import numpy as np
        >>> from mmkd_jax.data import from_columns, train_tokenizer
        >>> import numpy as np
        >>> texts = np.array(["a good day", "a bad day"])
        >>> words = train_tokenizer(texts.tolist(), size=100, length=8, modality="words")
        >>> tokenize(from_columns({"text": texts}, "days"), {words: 3}).columns["words.ids"].tolist()
        [[2, 1, 3], [2, 1, 3]]
    """
    texts = {k for k, s in dataset.spec.items() if s.dtype.kind in "SUO"}
    several = isinstance(column, Mapping)
    if several and {*column} != (has := {t.modality for t in lengths}):
        raise UserError(f"column names {choices(column)}, and the tokenizers have the modalities {choices(has)}")
    for name in column.values() if several else [column]:
        if name not in texts:
            raise UserError(f"no text column {name!r}; available: {choices(texts)}")
    words = dict(words or {})
    if unknown := [t for t in words if t not in lengths]:
        raise UserError(f"words: a tokenizer of {unknown[0].modality!r} that is not one of lengths: add it there")

    def source(tokenizer):
        return column[tokenizer.modality] if several else column

    spec = {k: s for k, s in dataset.spec.items() if k not in texts}
    for tokenizer, length in lengths.items():
        new = tokenizer([], length=length, pad=True)
        if tokenizer in words:
            new[f"{tokenizer.modality}.words"] = np.zeros((0, words[tokenizer]), np.int32)
        for k, x in new.items():
            if k in spec:
                rename = "or rename a pretrained model's input with pretrained.with_inputs(loaded, text=…)"
                raise UserError(f"two columns are named {k!r}: give each tokenizer a different modality, {rename}")
            spec[k] = jax.ShapeDtypeStruct(x.shape[1:], x.dtype)

    def fetch(rows):
        columns = dataset.take(rows)
        strings = {name: columns[name].tolist() for name in {source(t) for t in lengths}}
        ids = [t(strings[source(t)], length=n, pad=True, warn=False) for t, n in lengths.items()]
        for t, count in words.items():
            ids.append({f"{t.modality}.words": _all_words(t, strings[source(t)], lengths[t], count, rows)})
        return {k: x for group in (columns, *ids) for k, x in group.items() if k not in texts}

    how = {
        t.modality: {**t.fingerprint, "column": source(t), "length": n} | ({"words": words[t]} if t in words else {})
        for t, n in lengths.items()
    }
    steps = dataset.preprocess
    for tokenizer, length in lengths.items():
        if isinstance(tokenizer, Tokenizer):
            step = Tokenize(tokenizer, int(length))
            if tokenizer in words:
                step = TokenizeWords(tokenizer, int(length), int(words[tokenizer]))
            steps = followed(steps, source(tokenizer), step, remove=False)
    fingerprint = {**dataset.fingerprint, "tokens": how}
    return dataclasses.replace(dataset, spec=spec, fetch=fetch, fingerprint=fingerprint, preprocess=steps)


def _all_words(tokenizer, strings, length, count, rows):
    """Return the first token of each word, all of which must have one."""
    found = first_tokens(tokenizer, strings, length, count)
    for i, (string, places) in enumerate(zip(text.decoded(strings, "text"), found, strict=True)):
        size = len(string.split())
        if (located := int((places >= 0).sum())) < size:
            raise UserError(
                f"{tokenizer.modality}: row {int(rows[i])} has {size} words, of which {located} are within {count} "
                f"words and {length} tokens: increase both, or split the text"
            )
    return found
