"""Preprocessing step that is trained first: a word-level tokenizer of the training texts."""

import dataclasses
from collections.abc import Sequence

from mmkd_jax.data import text, tokenizer
from mmkd_jax.data.preprocess.row import Row, check_fields, require
from mmkd_jax.data.preprocess.tokenize import Tokenize
from mmkd_jax.errors import UserError
from mmkd_jax.typing import Count


@dataclasses.dataclass(frozen=True)
class TrainTokenizer:
    """Train a word-level tokenizer (`data.train_tokenizer`) on the training rows; `from_files` makes it a `Tokenize`.

    Attributes:
        size: maximum vocabulary size.
        length: number of tokens of each row.
        modality: prefix of the columns; the name of the input by default.

    Example:
        >>> from mmkd_jax.data.preprocess.row import RAW
        >>> trained = TrainTokenizer(size=9, length=4).fit(["a good day", "a bad day"], ["0", "1"], RAW, "text")
        >>> trained(["a day"], ["text 2"])["text.ids"].tolist()
        [[2, 3, 0, 0]]
    """

    size: Count
    length: Count
    modality: str = ""
    __post_init__ = check_fields

    def fit(self, values: Sequence[str | bytes], names: Sequence[str], before: Row, input: str) -> Tokenize:
        """Return the step with a tokenizer of these texts.

        Raises:
            UserError: a value is not a text, names the row; or no word occurs twice.
        """
        require(before, "raw value")
        texts = list(text.decoded(values, "", names))
        trained = tokenizer.train_tokenizer(texts, self.size, self.length, self.modality or input)
        if trained.vocabulary <= 2:
            raise UserError(
                f"TrainTokenizer of {input!r}: no word occurs twice in its {len(texts)} training texts: pass more "
                "texts, or encode their letters with Characters"
            )
        return Tokenize(trained, self.length)
