"""Preprocessing step: tokenize texts."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from mmkd_jax.data.preprocess.row import Row, check_fields, require
from mmkd_jax.data.text import decoded
from mmkd_jax.data.tokenizer import Tokenizer
from mmkd_jax.errors import UserError
from mmkd_jax.typing import Count


@dataclasses.dataclass(frozen=True)
class Tokenize:
    """Tokenize texts to `MODALITY.ids` and `MODALITY.mask`, padded or truncated to one length.

    Attributes:
        tokenizer: tokenizer of a pretrained model, or from `data.train_tokenizer`; its modality names the columns.
        length: number of tokens of each row.

    Example:
        >>> from mmkd_jax.data import train_tokenizer
        >>> words = train_tokenizer(["a good day", "a bad day"], size=9, length=8, modality="words")
        >>> Tokenize(words, 4)(["a day"], ["text 0"])["words.ids"].tolist()
        [[2, 3, 0, 0]]
    """

    tokenizer: Tokenizer
    length: Count

    def __post_init__(self):
        check_fields(self)
        if self.length > self.tokenizer.length:
            raise UserError(f"length={self.length}: this model supports at most {self.tokenizer.length} tokens")

    def __call__(self, values: Sequence[str | bytes], names: Sequence[str]) -> Mapping[str, np.ndarray]:
        """Return the columns.

        Raises:
            UserError: a value is not a text; names the row.
        """
        texts = list(decoded(values, "", names))
        return self.tokenizer(texts, length=self.length, pad=True, warn=False)

    def row_spec(self, before: Row) -> Mapping[str, Row]:
        """Return kind, shape and dtype of each column's rows."""
        require(before, "raw value")
        columns = self.tokenizer([], length=self.length, pad=True)
        return {k: Row("array", x.shape[1:], str(x.dtype)) for k, x in columns.items()}
