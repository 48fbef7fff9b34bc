"""Agreement of numbers and of orders: Lin's concordance correlation and Harrell's C."""

import bisect
import math
from itertools import groupby

import numpy as np
from jaxtyping import Bool, Float, Integer, Num

from mmkd_jax.metrics._inputs import check_answers, check_finite
from mmkd_jax.validation import validated


def _centered(x: Float[np.ndarray, " n"]) -> tuple[float, Float[np.ndarray, " n"]]:
    """Mean and deviations; those of constant values are exactly 0."""
    low = float(np.min(x))
    mean = low + math.fsum(x - low) / len(x)
    return mean, x - mean


@validated
def concordance_correlation(predictions: Float[np.ndarray, " n"], targets: Float[np.ndarray, " n"]) -> float:
    """Lin's concordance correlation coefficient (CCC): agreement in value, not only in direction.

    Formula: 2 cov(x, y)/(σ_x² + σ_y² + (μ_x − μ_y)²), moments with 1/n

    Args:
        predictions: x, [n].
        targets: y, [n].

    Returns:
        −1 … 1; 0 if one of them is constant; NaN if both are constant and equal, and without rows.

    Raises:
        UserError: shapes differ, or a value is not finite; names the first row.

    Source: Lin, A Concordance Correlation Coefficient to Evaluate Reproducibility, 1989,
        https://doi.org/10.2307/2532051

    Example:
        >>> round(concordance_correlation(np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 4.0])), 4)
        0.5714
    """
    x, y = check_finite(predictions, "predictions"), check_finite(targets, "targets")
    if not len(x):
        return math.nan
    mean_x, x = _centered(x)
    mean_y, y = _centered(y)
    covariance, variances = math.fsum(x * y) / len(x), math.fsum(np.concatenate([x * x, y * y])) / len(x)
    below = variances + (mean_x - mean_y) ** 2
    return 2 * covariance / below if below else math.nan


@validated
def concordance_index(
    times: Num[np.ndarray, " n"],
    events: Bool[np.ndarray, " n"] | Integer[np.ndarray, " n"],
    risks: Float[np.ndarray, " n"],
) -> float:
    """Harrell's C: share of the comparable pairs in which the row with the earlier event has the larger risk.

    Formula: Σ_{ij} (1[r_i > r_j] + 1[r_i = r_j]/2)/#pairs over the pairs with t_i < t_j and an event of i

    Args:
        times: t, of the event or of the end of observation, [n].
        events: whether the event was observed, [n]; booleans, or 0 and 1. The other rows are censored.
        risks: r, predicted, [n]; larger for earlier events.

    Returns:
        0 … 1, 1/2 for constant risks; NaN without comparable pairs.

    Raises:
        UserError: shapes differ, a time or risk is not finite, or an event is neither 0 nor 1; names the first row.

    Source: Harrell et al., Evaluating the Yield of Medical Tests, 1982,
        https://doi.org/10.1001/jama.1982.03320430047030

    Example:
        >>> concordance_index(np.array([1, 2, 3]), np.array([1, 0, 1]), np.array([0.9, 0.1, 0.9]))
        0.75
    """
    t, risk = check_finite(times, "times"), check_finite(risks, "risks")
    event = check_answers(events, "events")
    later: list[float] = []  # sorted risks of the rows with later times
    pairs = twice = 0
    rows = sorted(zip(-t, risk.tolist(), event.tolist(), strict=True))
    for _, same in groupby(rows, key=lambda row: row[0]):
        same = list(same)
        for _, r, has_event in same:
            if has_event:
                pairs += len(later)
                twice += bisect.bisect_left(later, r) + bisect.bisect_right(later, r)
        for _, r, _ in same:
            bisect.insort(later, r)
    return twice / (2 * pairs) if pairs else math.nan
