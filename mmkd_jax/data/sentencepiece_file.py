"""Structure of a sentencepiece model: protobuf readers accept one that is cut off between two of its pieces."""

_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_SIZES = {1: 8, 5: 4}
"""Wire type of protobuf -> bytes of its values."""


def is_whole(data: bytes) -> bool:
    """Return whether a file has pieces, the settings of its training and of its normalizer, and ends with a field.

    Args:
        data: content of the file.

    Example:
        >>> is_whole(b"")
        False
    """
    fields, at = set(), 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            _, at = _varint(data, at)
        elif kind == 2:
            size, at = _varint(data, at)
            at += size
        elif kind in _SIZES:
            at += _SIZES[kind]
        else:
            return False
        fields.add(tag >> 3)
    return at == len(data) and {_PIECES, _TRAINER, _NORMALIZER} <= fields


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits from the lowest, and the place after it, beyond the data if it is cut off."""
    value = 0
    for i, byte in enumerate(data[at : at + 10]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, at + i + 1
    return 0, len(data) + 1
