"""The types of a hyperparameter that is a number: it may be traced, scheduled, swept, set from the command line.

A `Count` is none of these: it is fixed when the program is compiled.
"""

from typing import Annotated

import numpy as np
from jaxtyping import Array, Float

Number = float | int | np.floating | Float[Array | np.ndarray, "..."]
Positive = Annotated[Number, "> 0"]
NotNegative = Annotated[Number, ">= 0"]
Share = Annotated[Number, "0 … 1"]
Count = Annotated[int, "1, 2, …"]

KINDS = (float, Number, Positive, NotNegative, Share)
