"""Text on the host: strings to fixed-length ids and masks."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int32

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
CHARACTERS = len(ALPHABET) + 2
"""Size of the vocabulary: 0 is padding, 1 any other character."""


def characters(
    texts: Sequence[str | bytes], length: int
) -> tuple[Int32[np.ndarray, "n {length}"], Bool[np.ndarray, "n {length}"]]:
    """Character ids and mask of each text; longer ones are cut.

    Args:
        texts: n strings, or UTF-8 bytes.
        length: of the result.

    Returns:
        ids (0 padding, 1 unknown, 2 … the letters a–z) and mask (True where there is a character).

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
