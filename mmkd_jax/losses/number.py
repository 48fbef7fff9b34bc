"""The types of a hyperparameter that is a number: it may be traced, scheduled, swept, set from the command line."""

from typing import Annotated

import numpy as np
from jaxtyping import Array, Float

Number = float | int | np.floating | Float[Array | np.ndarray, "..."]
Positive = Annotated[Number, "> 0"]
Share = Annotated[Number, "0 … 1"]

KINDS = (float, Number, Positive, Share)
