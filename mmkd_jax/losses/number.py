"""The type of a hyperparameter that is a number: it may be traced, scheduled, swept and set from the command line."""

import numpy as np
from jaxtyping import Array, Float

Number = float | int | np.floating | Float[Array | np.ndarray, "..."]
