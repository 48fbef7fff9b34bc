"""Character-level text encoding on the host: strings to fixed-length ids and masks."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int32

from mmkd_jax.errors import UserError

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
CHARACTERS = len(ALPHABET) + 2
"""Vocabulary size: id 0 is padding, 1 any other character."""


def characters(
    texts: Sequence[str | bytes], length: int
) -> tuple[Int32[np.ndarray, "n {length}"], Bool[np.ndarray, "n {length}"]]:
    """Encode texts as character ids and a mask; longer texts are truncated.

    Args:
        texts: n strings, or UTF-8 bytes.
        length: number of characters per row.

    Returns:
        ids (0 padding, 1 unknown, 2 … the letters a–z) and mask (True for characters, False for padding).

    Example:
        >>> ids, mask = characters(["ab!"], length=4)
        >>> ids.tolist(), mask.tolist()
        ([[2, 3, 1, 0]], [[True, True, True, False]])
    """
    ids = np.zeros((len(texts), length), np.int32)
    for row, text in zip(ids, texts, strict=True):
        text = text.decode() if isinstance(text, bytes) else text
        codes = [ALPHABET.find(c) + 2 for c in text.lower()[:length]]
        row[: len(codes)] = np.maximum(codes, 1) if codes else 0
    return ids, ids > 0


def stored(texts: Sequence[str | bytes], dtype: str) -> np.ndarray:
    r"""Store texts as a fixed-width UTF-8 bytes column, for tokenization later.

    Args:
        texts: n strings, or UTF-8 bytes.
        dtype: NumPy bytes dtype, such as "S900" for at most 900 bytes.

    Raises:
        UserError: a text does not fit in the dtype.

    Example:
        >>> stored(["déjà vu"], "S10")
        array([b'd\xc3\xa9j\xc3\xa0 vu'], dtype='|S10')
    """
    encoded = [t.encode() if isinstance(t, str) else t for t in texts]
    longest = max(map(len, encoded), default=0)
    if longest > np.dtype(dtype).itemsize:
        raise UserError(f"a text of {longest} bytes does not fit in {dtype}")
    return np.array(encoded, dtype)
