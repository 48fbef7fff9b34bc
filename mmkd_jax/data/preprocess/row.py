"""What the steps of a chain pass on for each row: its kind, shape and dtype, known before any row is read."""

import dataclasses
import math
import re
import typing
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from mmkd_jax.errors import UserError, shown
from mmkd_jax.typing import Count

Kind = Literal["raw value", "image", "waveform", "video", "array"]


@dataclasses.dataclass(frozen=True)
class Row:
    """Value of one row between two steps.

    Attributes:
        kind: "raw value" before the first step; an "image" is uint8 [h, w, c], a "video" uint8 [t, h, w, 3], a
            "waveform" float32 [n] at a known rate, an "array" anything else.
        shape: its shape; None for sizes that differ from row to row.
        dtype: its dtype.
        rate: sample rate of a waveform, in Hz.
    """

    kind: Kind
    shape: tuple[int | None, ...] = ()
    dtype: str = ""
    rate: int | None = None


RAW = Row("raw value")
_NAME = re.compile(r"(.*?) (\d+)(?:, .*)?", re.DOTALL)


def require(row: Row, *kinds: Kind) -> Row:
    """Return the value that a step reads.

    Raises:
        UserError: it is of another kind; the message lacks the name of the step.
    """
    if row.kind not in kinds:
        first = {"image": "ReadImage", "waveform": "Resample", "video": "ReadVideo", "array": "ReadArray"}
        names = [first[k] for k in kinds if k in first]
        remedy = f"put {' or '.join(names)} before it" if names else "make it the first step"
        raise UserError(f"it reads {' or '.join(map(_with_article, kinds))}, not {_with_article(row.kind)}: {remedy}")
    return row


def name_and_row(name: str) -> tuple[str, int]:
    """Return the input and the row of a name in messages.

    Example:
        >>> name_and_row("photo 3, a b.png")
        ('photo', 3)
    """
    found = _NAME.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, 0)


def check_fields(value: Any) -> None:
    """Validate the fields of a frozen dataclass against their annotations; for `__post_init__`.

    Raises:
        UserError: an error of `check_types`.
    """
    check_types(type(value), {field.name: getattr(value, field.name) for field in dataclasses.fields(value)})


def check_types(kind: type, values: Mapping[str, Any]) -> None:
    """Validate values against the annotations of a dataclass, before it is built.

    Raises:
        UserError: a value has another type, or is a number that is not finite or beyond 32 bits; names class and field.
    """
    hints = typing.get_type_hints(kind, include_extras=True)
    for name, x in values.items():
        if not _fits(x, hints[name]):
            raise UserError(f"{kind.__name__}: {name} is {shown(repr(x))}; expected {_words(hints[name])}")


def _fits(x, hint):
    if hint == Count:
        return _fits(x, int) and x >= 1
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(x, each) for each in inner)
    if origin is Annotated:
        return _fits(x, inner[0])
    if origin is Literal:
        return any(type(x) is type(each) and x == each for each in inner)
    if origin is tuple:
        each = inner[:1] * len(x) if isinstance(x, tuple) and inner[-1] is ... else inner
        return isinstance(x, tuple) and len(x) == len(each) and all(map(_fits, x, each))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(x, Mapping) and all(_fits(k, inner[0]) and _fits(v, inner[1]) for k, v in x.items())
    if hint is int:
        return type(x) is int and abs(x) < 2**31
    if hint is float:
        return type(x) in (int, float) and math.isfinite(x) and abs(x) < 2**31
    return hint is Any or (x is None if hint in (None, NoneType) else isinstance(x, origin or hint))


def _words(hint):
    names = {Count: "a whole number, 1 or more", int: "a whole number", float: "a number", str: "a text"}
    names |= {bool: "True or False", NoneType: "None", bytes: "bytes"}
    if hint in names:
        return names[hint]
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return ", or ".join(map(_words, inner))
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if origin is tuple:
        return f"a tuple of {_words(inner[0])}" if inner[-1] is ... else f"({', '.join(map(_words, inner))})"
    return f"{getattr(hint, '__name__', hint)}"


def _with_article(kind):
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
