"""Means that say how many of their items were undefined."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num


class Mean(NamedTuple):
    """Mean over classes, queries or rows, without those where the metric is undefined.

    Attributes:
        value: the mean of the defined values; NaN if none is.
        counted: number of defined values.
        left_out: number of undefined values.
        values: every value, [m]; NaN where undefined.
    """

    value: float
    counted: int
    left_out: int
    values: Float[np.ndarray, " m"]


def mean_over(values: Float[np.ndarray, " m"], weights: Num[np.ndarray, " m"] | None = None) -> Mean:
    """Mean of the values that are not NaN, as a `Mean`; the same bits in any order.

    Formula: Σ w_i x_i / Σ w_i over the defined x_i

    Args:
        values: x, [m].
        weights: w, [m], at least 0; None for equal weights.

    Example:
        >>> found = mean_over(np.array([1.0, np.nan, 0.5]))
        >>> found.value, found.counted, found.left_out
        (0.75, 2, 1)
    """
    values = np.asarray(values, np.float64)
    weights = np.ones(values.shape) if weights is None else np.asarray(weights, np.float64)
    defined = ~np.isnan(values)
    total, mass = math.fsum((weights * values)[defined]), math.fsum(weights[defined])
    counted = int(defined.sum())
    return Mean(total / mass if mass else math.nan, counted, len(values) - counted, values)
