"""A dict that remembers which of its names were read, to see what a function reads."""

from collections.abc import Mapping
from typing import Any


class Watched(dict):
    """Copy of a mapping that records reads.

    Attributes:
        names: names that were read.
        last: name that was read, or asked for, last.

    Example:
        >>> batch = Watched({"x": 1, "y": 2})
        >>> batch["x"], "z" in batch, batch.names, batch.last
        (1, False, {'x'}, 'z')
    """

    def __init__(self, values: Mapping[str, Any]):
        super().__init__(values)
        self.names: set[str] = set()
        self.last: str | None = None

    def __getitem__(self, name):
        self.last = name
        value = super().__getitem__(name)
        self.names.add(name)
        return value

    def __contains__(self, name):
        self.last = name
        return super().__contains__(name)

    def get(self, name, default=None):
        return self[name] if name in self else default  # noqa: SIM401  this is `get`
