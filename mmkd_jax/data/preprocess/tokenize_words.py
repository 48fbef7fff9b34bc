"""Preprocessing step: tokenize texts, and locate their words."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from mmkd_jax.data.preprocess.row import Row
from mmkd_jax.data.preprocess.tokenize import Tokenize
from mmkd_jax.data.text import decoded
from mmkd_jax.data.words import first_tokens
from mmkd_jax.typing import Count


@dataclasses.dataclass(frozen=True)
class TokenizeWords(Tokenize):
    """Tokenize texts as `Tokenize` does, with the first token of each word as the column `MODALITY.words`.

    Words are separated by white space. Those without a token, beyond `length`, have −1, as have those after the last.

    Attributes:
        tokenizer: tokenizer of a pretrained model.
        length: number of tokens of each row.
        words: number of words of each row.

    Example:
        >>> from mmkd_jax.data import train_tokenizer
        >>> pieces = train_tokenizer(["I don't", "I can't"], size=9, length=8)
        >>> TokenizeWords(pieces, 4, 3)(["I don't"], ["text 0"])["text.words"].tolist()
        [[0, 1, -1]]
    """

    words: Count

    def __call__(self, values: Sequence[str | bytes], names: Sequence[str]) -> Mapping[str, np.ndarray]:
        """Return the columns.

        Raises:
            UserError: a value is not a text, names the row; or the tokenizer does not locate its tokens.
        """
        texts = list(decoded(values, "", names))
        places = first_tokens(self.tokenizer, texts, self.length, self.words)
        return {**super().__call__(values, names), f"{self.tokenizer.modality}.words": places}

    def row_spec(self, before: Row) -> Mapping[str, Row]:
        """Return kind, shape and dtype of each column's rows."""
        places = Row("array", (self.words,), "int32")
        return {**super().row_spec(before), f"{self.tokenizer.modality}.words": places}
