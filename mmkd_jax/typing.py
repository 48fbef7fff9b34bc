"""Annotations of numeric hyperparameters, which may be traced, scheduled, swept, or set from the command line.

A `Count` may not: it is fixed at compile time.
"""

from typing import Annotated, Any

import numpy as np
from jaxtyping import Array, Float

Scalar = float | int | np.floating | Float[Array | np.ndarray, "..."]
Positive = Annotated[Scalar, "> 0"]
NotNegative = Annotated[Scalar, ">= 0"]
Share = Annotated[Scalar, "0 … 1"]
Count = Annotated[int, "1, 2, …"]
Shape = tuple[Any, ...]
"""Shape of an array; in a program that is exported for any batch size, its first size is symbolic."""

KINDS = (float, Scalar, Positive, NotNegative, Share)
