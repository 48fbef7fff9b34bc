"""Processors of pretrained models: from raw pictures, recordings or videos to columns."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np


@runtime_checkable
class Processor(Protocol):
    """Processor of a pretrained model, such as `Pictures`, `Videos` or `Waves`: a dataclass with its settings."""

    @property
    def modality(self) -> str:
        """Prefix of its columns."""
        ...

    def row_spec(self, options: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
        """Return shapes and dtypes of one row, or raise if they depend on the row."""
        ...

    def __call__(self, *raw: Any, **options: Any) -> dict[str, np.ndarray]:
        """Return the columns of some rows."""
        ...
