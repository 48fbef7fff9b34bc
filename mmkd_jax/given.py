"""Variables from outside an experiment, such as a pretrained encoder's, for the start of a part's models."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from mmkd_jax.checkpoint import write_variables


@dataclasses.dataclass(frozen=True, eq=False)
class Given:
    """Variables, and where they come from: a value in `Part.take`. They are no constants of any program.

    Attributes:
        variables: a tree of arrays.
        said: where they come from, lines for `mmkd explain`.

    Example:
        >>> import numpy as np
        >>> head = Given({"kernel": np.zeros((2, 3), np.float32)}, ("zeros",))
        >>> head.fingerprint[:8], str(head)
        ('336b3459', 'zeros')
    """

    variables: Any
    said: Sequence[str] = ()

    @functools.cached_property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of a SHA-256 of names and values."""
        return write_variables("", self.variables, write=False)[:16]

    def __str__(self) -> str:
        return "; ".join(self.said) or f"variables {self.fingerprint}"
