"""Interpreter of the pickle opcodes that weight files use; it runs no code, and files share no state.

A global name becomes a `Global`, which only the `call` passed by the reader interprets. Lists and dicts are new in
every read; everything else is immutable. Opcodes that create other objects or set attributes are refused.
"""

import dataclasses
import pickletools
import struct
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import numpy as np

from mmkd_jax.errors import shown

MOST_STEPS, MOST_OBJECTS, MOST_ENTRIES, MOST_TEXT = 10_000_000, 1_500_000, 10_000_000, 2**25
"""Limits of opcodes; of containers, texts and memo entries; of the entries of all containers; and of bytes of text."""

_ONLY = "a weights file may contain tensors and containers only"
_CONSTANTS = {b"N": None, b"\x88": True, b"\x89": False}
_SIZED = {b"X": "<I", b"\x8c": "<B", b"\x8d": "<Q", b"U": "<B", b"T": "<i", b"C": "<B", b"B": "<I", b"\x8e": "<Q"}
_BYTES = (b"C", b"B", b"\x8e")
_FIXED = {b"K": "<B", b"M": "<H", b"J": "<i", b"G": ">d"}
_TUPLES = {b"\x85": 1, b"\x86": 2, b"\x87": 3}
_KEYS = (str, bytes, int, float, type(None))
_LEAVES = (*_KEYS, np.ndarray)


class Refused(Exception):
    """The file contains something that no weights file needs; the message is a clause without the path."""


@dataclasses.dataclass(frozen=True)
class Global:
    """Name of a class or function in a pickle: never the object itself."""

    module: str
    name: str


class Meaning(NamedTuple):
    """Meaning of a pickle's names and references.

    Attributes:
        allowed: names that may occur, as (module, name).
        call: `(name, arguments) -> value`; an `OrderedDict` is a dict.
        refer: `persistent id -> value`.
    """

    allowed: Collection[tuple[str, str]]
    call: Callable[[Global, tuple], Any]
    refer: Callable[[Any], Any]


def run(read: Callable[[int], bytes], meaning: Meaning) -> Any:
    """Interpret a pickle, and leave the file at its end.

    Args:
        read: `n -> the next n bytes`, which raises an error without reading if the file has fewer.
        meaning: meaning of names and references.

    Raises:
        Refused: an opcode, a name or a size is not allowed.
        ValueError, EOFError, struct.error: the pickle is damaged.

    Example:
        >>> import io, pickle
        >>> meaning = Meaning((), lambda name, arguments: None, lambda key: None)
        >>> run(io.BytesIO(pickle.dumps({"a": [1, 2.5]})).read, meaning)
        {'a': [1, 2.5]}
    """
    machine = _Machine(read, meaning)
    for _ in range(MOST_STEPS):
        opcode = read(1)
        if opcode == b".":
            value = machine.pop()
            _check_tree(value)
            return value
        machine.step(opcode)
    raise Refused(f"it has more than {MOST_STEPS:,} opcodes: {_ONLY}")


class _Machine:
    def __init__(self, read, meaning):
        self.read, self.meaning = read, meaning
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.ordered: dict[int, dict] = {}  # OrderedDicts by identity; the value prevents its reuse
        self.objects = self.text = 0

    def pop(self, count=1):
        """The last value, or a list of the last `count`, but none from below the last mark."""
        if len(self.stack) - count < (self.marks[-1] if self.marks else 0):
            raise ValueError("its stack has too few values")
        if count == 1:
            return self.stack.pop()
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def since_mark(self):
        if not self.marks:
            raise ValueError("its stack has no mark")
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def last(self, kind):
        """The container that is filled next; it stays on the stack."""
        value = self.pop()
        if type(value) is not kind:
            raise ValueError(f"it fills a {type(value).__name__} as a {kind.__name__}")
        self.stack.append(value)
        return value

    def number(self, layout):
        return struct.unpack(layout, self.read(struct.calcsize(layout)))[0]

    def line(self):
        text = bytearray()
        while (byte := self.read(1)) != b"\n":
            text += byte
            if len(text) > 256:
                raise ValueError("a line is too long")
        return text.decode()

    def sized(self, opcode):
        count = self.number(_SIZED[opcode])
        if count < 0:
            raise ValueError("a string has a negative length")
        data = self.read(count)
        self.grow()
        self.text += count
        if self.text > MOST_TEXT:
            raise Refused(f"it has more than {MOST_TEXT:,} bytes of text: {_ONLY}")
        return data if opcode in _BYTES else data.decode("utf-8", "surrogatepass")

    def text_int(self, opcode):  # of protocols 0 and 1, where booleans are I00 and I01
        text = self.line()
        if opcode == b"I" and text in ("00", "01"):
            return text == "01"
        return int(text.removesuffix("L") if opcode == b"L" else text)

    def remember(self, index):
        self.grow()
        value = self.pop()
        self.memo[index] = value
        self.stack.append(value)

    def recall(self, index):
        if index not in self.memo:
            raise ValueError(f"memo entry {index} does not exist")
        self.stack.append(self.memo[index])

    def grow(self):
        self.objects += 1
        if self.objects > MOST_OBJECTS:
            raise Refused(f"it has more than {MOST_OBJECTS:,} containers, texts and memo entries: {_ONLY}")

    def new(self, value):
        self.grow()
        self.stack.append(value)

    def fill(self, pairs):
        target = self.last(dict)
        if len(pairs) % 2:
            raise ValueError("a dict has a key without a value")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, _KEYS) or (isinstance(key, int) and not -(2**63) <= key < 2**63):
                raise ValueError(f"a dict has a key of type {type(key).__name__}")
            target[key] = value

    def named(self, module, name):
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a name is not a string")
        if (module, name) not in self.meaning.allowed:
            raise Refused(f"it requests {shown(f'{module}.{name}')}: {_ONLY}")
        self.stack.append(Global(module, name))

    def reduce(self):
        function, arguments = self.pop(2)
        if not isinstance(function, Global) or type(arguments) is not tuple:
            raise ValueError("it calls what is not a name")
        value = self.meaning.call(function, arguments)
        self.new(value)
        if function.name == "OrderedDict":
            self.ordered[id(value)] = value

    def build(self):
        """Ignore an OrderedDict's attributes: PyTorch saves a state dict's `_metadata` so."""
        _, target = self.pop(), self.pop()
        if id(target) not in self.ordered:
            raise Refused(f"it sets attributes of a {type(target).__name__}: {_ONLY}")
        self.stack.append(target)

    def step(self, opcode):
        match opcode:
            case b"q":
                self.remember(self.number("<B"))
            case b"r":
                self.remember(self.number("<I"))
            case b"\x94":
                self.remember(len(self.memo))
            case b"h":
                self.recall(self.number("<B"))
            case b"j":
                self.recall(self.number("<I"))
            case b"X" | b"\x8c" | b"\x8d" | b"U" | b"T" | b"C" | b"B" | b"\x8e":
                self.stack.append(self.sized(opcode))
            case b"K" | b"M" | b"J" | b"G":
                self.stack.append(self.number(_FIXED[opcode]))
            case b"\x8a":
                self.stack.append(int.from_bytes(self.read(self.number("<B")), "little", signed=True))
            case b"I" | b"L":
                self.stack.append(self.text_int(opcode))
            case b"N" | b"\x88" | b"\x89":
                self.stack.append(_CONSTANTS[opcode])
            case b"(":
                self.grow()
                self.marks.append(len(self.stack))
            case b"t":
                self.new(tuple(self.since_mark()))
            case b"\x85" | b"\x86" | b"\x87":
                count = _TUPLES[opcode]
                self.new((self.pop(),) if count == 1 else tuple(self.pop(count)))
            case b")":
                self.new(())
            case b"]":
                self.new([])
            case b"}":
                self.new({})
            case b"a":
                value = self.pop()
                self.last(list).append(value)
            case b"e":
                values = self.since_mark()
                self.last(list).extend(values)
            case b"s":
                self.fill(self.pop(2))
            case b"u":
                self.fill(self.since_mark())
            case b"c":
                self.named(self.line(), self.line())
            case b"\x93":
                self.named(*self.pop(2))
            case b"Q":
                self.stack.append(self.meaning.refer(self.pop()))
            case b"R":
                self.reduce()
            case b"b":
                self.build()
            case b"\x80":
                if self.number("<B") > 5:
                    raise ValueError("its pickle protocol is unknown")
            case b"\x95":
                self.read(8)
            case _:
                known = [x.name for x in pickletools.opcodes if x.code == opcode.decode("latin-1")]
                if not known:
                    raise ValueError(f"unknown opcode {opcode!r}")
                raise Refused(f"it uses the pickle opcode {known[0]}: {_ONLY}")


def _check_tree(root):
    """Refuse cycles, other objects than containers and leaves, and more entries than any weights file has.

    Each container is visited a single time, wherever it occurs; its children are on the path while its iterator is.
    """
    path: list[tuple[Any, Iterator[Any]]] = [(None, iter((root,)))]
    done, active, entries = set(), set(), 0
    while path:
        node, children = path[-1]
        child = next(children, path)
        if child is path:
            path.pop()
            active.discard(id(node))
            done.add(id(node))
            continue
        entries += 1
        if entries > MOST_ENTRIES:
            raise Refused(f"its containers have more than {MOST_ENTRIES:,} entries: {_ONLY}")
        if type(child) in (list, tuple, dict):
            if id(child) in active:
                raise Refused(f"a container contains itself: {_ONLY}")
            if id(child) not in done:
                active.add(id(child))
                path.append((child, iter(child.values() if isinstance(child, dict) else child)))
        elif not isinstance(child, _LEAVES):
            what = child.name if isinstance(child, Global) else type(child).__name__.strip("_").lower()
            raise Refused(f"it contains a {what} outside of a tensor: {_ONLY}")
