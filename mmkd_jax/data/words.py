"""Words of texts, split at white space: their first tokens, and the labels of their tags."""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int32

from mmkd_jax.data import other_tokenizers, text
from mmkd_jax.data.tokenizer import Tokenizer
from mmkd_jax.errors import UserError, choices, shown


def first_tokens(
    tokenizer: Tokenizer, texts: Sequence[str | bytes], length: int, count: int
) -> Int32[np.ndarray, "n {count}"]:
    """Return the position of the first token of each word; −1 after the last word, and for words without a token.

    Args:
        tokenizer: tokenizer of the texts.
        texts: n strings, or UTF-8 bytes.
        length: maximum length in tokens; later ones are cut.
        count: number of words of each row; later ones are left out.

    Raises:
        UserError: the tokenizer exists in Python only and does not locate its tokens, or a text is not valid.

    Example:
        >>> from mmkd_jax.data import train_tokenizer
        >>> first_tokens(train_tokenizer(["I don't know."], size=9, length=8), ["I don't know."], 8, 4).tolist()
        [[0, 1, 4, -1]]
    """
    if isinstance(tokenizer.tokenizer, other_tokenizers.PythonTokenizer):
        raise UserError(f"{tokenizer.modality}: words of a tokenizer in Python, which does not locate its tokens")
    strings = list(text.decoded(texts, tokenizer.modality))
    found = np.full((len(strings), count), -1, np.int32)
    for row, string, e in zip(found, strings, tokenizer.encodings(strings, length), strict=True):
        places = [(a, b, i) for i, (a, b) in enumerate(e.offsets) if a < b]
        for word, match in enumerate([*re.finditer(r"\S+", string)][:count]):
            row[word] = next((i for a, b, i in places if a < match.end() and match.start() < b), -1)
    return found


def word_labels(
    texts: Sequence[str | bytes], tags: Sequence[Sequence[str]], names: Sequence[str], length: int, label: str = "label"
) -> dict[str, Int32[np.ndarray, "n {length}"] | Bool[np.ndarray, "n {length}"]]:
    """Return the columns `label` and `label.mask` of a `tasks.tagging`, from the tag of each word.

    Args:
        texts: n strings, or UTF-8 bytes, whose words are separated by white space.
        tags: name of the tag of each word, for each text.
        names: names of the tags, in the order of the labels.
        length: number of words of each row.
        label: name of the labels.

    Raises:
        UserError: a text has another number of words than of tags, or more than `length`; or a tag is unknown. Names
            the first row.

    Example:
        >>> found = word_labels(["Time flies", "No"], [["NOUN", "VERB"], ["DET"]], ("DET", "NOUN", "VERB"), 3)
        >>> found["label"].tolist(), found["label.mask"].tolist()
        ([[1, 2, 0], [0, 0, 0]], [[True, True, False], [True, False, False]])
    """
    if len(texts) != len(tags):
        raise UserError(f"word_labels: {len(texts)} texts, and tags of {len(tags)}: give the tags of each text")
    index = {name: i for i, name in enumerate(names)}
    labels = np.zeros((len(texts), length), np.int32)
    mask = np.zeros(labels.shape, bool)
    for row, (string, each) in enumerate(zip(text.decoded(texts, "texts"), tags, strict=True)):
        size = len(string.split())
        if isinstance(each, str) or len(each) != size:
            raise UserError(f"word_labels: row {row} has {size} words and the tags {shown(repr(each))}: one for each")
        if size > length:
            raise UserError(f"word_labels: row {row} has {size} words: increase length={length}, or split the text")
        if unknown := [t for t in each if t not in index]:
            raise UserError(f"word_labels: tag {shown(repr(unknown[0]))} in row {row}; the tags are {choices(names)}")
        labels[row, :size], mask[row, :size] = [index[t] for t in each], True
    return {label: labels, f"{label}.mask": mask}
