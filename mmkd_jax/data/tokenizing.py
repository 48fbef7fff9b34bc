"""Columns of a data set that tokenizers make from its texts, as rows are read."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from mmkd_jax.data.dataset import Dataset
from mmkd_jax.data.preprocess.preprocessing import followed
from mmkd_jax.data.preprocess.tokenize import Tokenize
from mmkd_jax.data.tokenizer import Tokenizer
from mmkd_jax.errors import UserError, choices


def tokenize(dataset: Dataset, lengths: Mapping[Any, int], column: str | Mapping[str, str] = "text") -> Dataset:
    """Tokenize a data set's texts lazily, with one or several tokenizers.

    The steps are declared in `preprocess`, so that a student takes its tokenizer along.

    Args:
        dataset: data set with a text column: strings, or UTF-8 bytes as returned by `load`.
        lengths: `Tokenizer` -> length to which its rows are truncated or padded. The tokenizer's `modality` is the
            prefix of its columns, so two models can use different tokenizers for the same text. If empty, text columns
            are only removed.
        column: name of the text column; or, for several, modality of each tokenizer -> its text column, such as
            {"question": "question", "answer": "answer"}.

    Returns:
        The data set with `MODALITY.ids` and `MODALITY.mask` replacing all text columns.

    Raises:
        UserError: a column does not exist, a tokenizer has none, a length exceeds a tokenizer's maximum, or two
            tokenizers have the same modality.

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

    def source(tokenizer):
        return column[tokenizer.modality] if several else column

    spec = {k: s for k, s in dataset.spec.items() if k not in texts}
    for tokenizer, length in lengths.items():
        for k, x in tokenizer([], length=length, pad=True).items():
            if k in spec:
                rename = "or rename a pretrained model's input with pretrained.with_inputs(loaded, text=…)"
                raise UserError(f"two columns are named {k!r}: give each tokenizer a different modality, {rename}")
            spec[k] = jax.ShapeDtypeStruct(x.shape[1:], x.dtype)

    def fetch(rows):
        columns = dataset.take(rows)
        ids = [t(columns[source(t)].tolist(), length=n, pad=True, warn=False) for t, n in lengths.items()]
        return {k: x for group in (columns, *ids) for k, x in group.items() if k not in texts}

    how = {t.modality: {**t.fingerprint, "column": source(t), "length": n} for t, n in lengths.items()}
    steps = dataset.preprocess
    for tokenizer, length in lengths.items():
        if isinstance(tokenizer, Tokenizer):
            steps = followed(steps, source(tokenizer), Tokenize(tokenizer, int(length)), remove=False)
    fingerprint = {**dataset.fingerprint, "tokens": how}
    return dataclasses.replace(dataset, spec=spec, fetch=fetch, fingerprint=fingerprint, preprocess=steps)
