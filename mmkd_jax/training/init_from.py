"""Pretrained variables from outside an experiment, as initial values of a training's models."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from mmkd_jax.variables_file import write_variables


@dataclasses.dataclass(frozen=True, eq=False)
class PretrainedVariables:
    """Pretrained variables and their origin, for `init_from` of `Trained` and `Frozen`.

    Compiled programs receive them as arguments, so that they are not embedded as constants.

    Attributes:
        variables: pytree of arrays.
        origin: lines that describe where the variables come from, printed by `mmkd explain`.

    Example:
        >>> import numpy as np
        >>> head = PretrainedVariables({"kernel": np.zeros((2, 3), np.float32)}, ("zeros",))
        >>> head.fingerprint[:8], str(head)
        ('336b3459', 'zeros')
    """

    variables: Any
    origin: Sequence[str] = ()

    @functools.cached_property
    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of names and values."""
        return write_variables("", self.variables, write=False)[:16]

    def __str__(self) -> str:
        return "; ".join(self.origin) or f"variables {self.fingerprint}"
