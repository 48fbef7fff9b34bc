"""Character-level text encoding on the host: strings to fixed-length ids and masks."""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32

from mmkd_jax.errors import UserError, shown

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
CHARACTERS = len(ALPHABET) + 2
"""Vocabulary size: id 0 is padding, 1 any other character."""


_WHITE = "\t\x0b\x0c\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
"""White space of Unicode, which tokenizers removes from the ends of the lines of a vocabulary."""


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
    for row, text in zip(ids, decoded(texts, "texts"), strict=True):
        codes = [ALPHABET.find(c) + 2 for c in text.lower()[:length]]
        row[: len(codes)] = np.maximum(codes, 1) if codes else 0
    return ids, ids > 0


def stored(texts: Sequence[str | bytes], dtype: str) -> np.ndarray:
    r"""Store texts as a fixed-width UTF-8 bytes column, for tokenization later.

    Args:
        texts: n strings, or UTF-8 bytes.
        dtype: NumPy bytes dtype, such as "S900" for at most 900 bytes.

    Raises:
        UserError: a text does not fit in the dtype, or an error of `decoded`.

    Example:
        >>> stored(["déjà vu"], "S10")
        array([b'd\xc3\xa9j\xc3\xa0 vu'], dtype='|S10')
    """
    encoded = [t.encode() for t in decoded(texts, "texts")]
    longest = max(map(len, encoded), default=0)
    if longest > np.dtype(dtype).itemsize:
        raise UserError(f"a text of {longest} bytes does not fit in {dtype}")
    return np.array(encoded, dtype)


def decoded(texts: Iterable[Any], name: str, names: Sequence[str] | None = None) -> Iterator[str]:
    """Yield texts as strings; a byte order mark of bytes is removed.

    Args:
        texts: strings, or UTF-8 bytes.
        name: name of the texts, used in messages.
        names: name of each text in messages; None counts the rows.

    Raises:
        UserError: an element is neither, is not UTF-8, or has NUL characters, as UTF-16 has; names its row.
    """
    for row, x in enumerate(texts):
        try:
            string = x.decode("utf-8-sig") if isinstance(x, bytes) else x
            valid = isinstance(string, str) and string.encode() is not None
        except UnicodeError:  # of bytes, or of a lone surrogate
            valid, string = False, ""
        where = f"{name}: row {row}" if names is None else names[row]
        if not valid:
            raise UserError(f"{where} is {shown(repr(x))}; expected a string, or UTF-8 bytes: decode it")
        if "\0" in string:
            raise UserError(f"{where} has NUL characters, {shown(string[:20])}: decode it, or remove them")
        yield string


def lines(data: bytes, path: str | os.PathLike) -> list[str]:
    r"""Split a UTF-8 text file into lines, at line feeds only.

    White space at the ends of lines and a byte order mark are removed, as in tokenizers. `str.splitlines` also splits
    at U+2028, U+0085 and others, which shifts all later lines.

    Args:
        data: content of the file.
        path: its path, used in messages.

    Raises:
        UserError: the file is not UTF-8, or a line other than "" occurs twice.

    Example:
        >>> lines("\ufeff[PAD]\r\na\u2028b\n".encode(), "vocab.txt")
        ['[PAD]', 'a\u2028b']
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}): convert it") from None
    found = [line.rstrip(_WHITE) for line in text.removesuffix("\n").split("\n")]
    seen: dict[str, int] = {}
    for i, line in enumerate(found):
        if line and seen.setdefault(line, i) != i:
            raise UserError(f"{path} has {shown(repr(line))} in lines {seen[line] + 1} and {i + 1}: fetch it again")
    return found
