"""Metrics by subgroup, and the gaps between subgroups."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64, Integer, Shaped

from mmkd_jax.errors import UserError
from mmkd_jax.metrics._inputs import check_answers, split
from mmkd_jax.typing import Count
from mmkd_jax.validation import validated


class Subgroups(NamedTuple):
    """A metric by subgroup.

    Attributes:
        names: of the subgroups, sorted, [g].
        rows: of each subgroup, [g].
        values: the metric of each subgroup, [g]; NaN where undefined.
        compared: which subgroups count in `gap`, `lowest` and `highest`, [g]: with enough rows and a defined value.
    """

    names: tuple[str, ...]
    rows: Int64[np.ndarray, " g"]
    values: Float[np.ndarray, " g"]
    compared: Bool[np.ndarray, " g"]

    @property
    def gap(self) -> float:
        """Largest minus smallest value; NaN if fewer than two subgroups are compared."""
        values = self.values[self.compared]
        return float(np.max(values) - np.min(values)) if len(values) > 1 else math.nan

    @property
    def lowest(self) -> str:
        """Name of the subgroup with the lowest value, the first of several; empty if none is compared."""
        return self.names[np.argmin(np.where(self.compared, self.values, np.inf))] if self.compared.any() else ""

    @property
    def highest(self) -> str:
        """Name of the subgroup with the highest value, the first of several; empty if none is compared."""
        return self.names[np.argmax(np.where(self.compared, self.values, -np.inf))] if self.compared.any() else ""


@validated
def by_subgroup(
    metric: Callable[[Mapping[str, np.ndarray]], float],
    rows: Mapping[str, np.ndarray],
    groups: Shaped[np.ndarray, " n"],
    least: Count = 30,
) -> Subgroups:
    """Compute a metric for the rows of each subgroup.

    What distillation did is the difference of two gaps: that of the student minus that of its teacher. For an interval
    of a gap, pass `lambda rows: by_subgroup(metric, rows, rows["group"]).gap` to `bootstrap`.

    Args:
        metric: function of columns, such as `lambda rows: accuracy(rows["label"], rows["prediction"])`.
        rows: name -> column, [n, ...].
        groups: the subgroup of each row, [n]; integers, booleans or strings.
        least: rows below which a subgroup is listed but not compared.

    Raises:
        UserError: a column has another number of rows than `groups`, or groups are floats or objects.

    Example:
        >>> rows = {"right": np.array([1.0, 1.0, 0.0, 1.0])}
        >>> groups = np.array(["a", "a", "b", "b"])
        >>> found = by_subgroup(lambda rows: float(np.mean(rows["right"])), rows, groups, least=2)
        >>> found.values.tolist(), found.gap, found.lowest
        ([1.0, 0.5], 0.5, 'b')
    """
    for name, column in rows.items():
        if np.shape(column)[:1] != (len(groups),):
            found = f"column {name!r} is {list(np.shape(column))}, but groups are [{len(groups)}]"
            raise UserError(f"{found}; expected the group of each row")
    names, which = split(groups)
    members = [which == i for i in range(len(names))]
    values = np.array([float(metric({k: x[m] for k, x in rows.items()})) for m in members], np.float64)
    sizes = np.array([m.sum() for m in members], np.int64)
    return Subgroups(tuple(map(str, names)), sizes, values, (sizes >= least) & ~np.isnan(values))


Binary = Bool[np.ndarray, " n"] | Integer[np.ndarray, " n"]


def _share(rows: Mapping[str, np.ndarray]) -> float:
    """Share of positive predictions among the rows that count."""
    counted = rows["predictions"][rows["counts"]]
    return float(np.count_nonzero(counted) / len(counted)) if len(counted) else math.nan


@validated
def demographic_parity(predictions: Binary, groups: Shaped[np.ndarray, " n"], least: Count = 30) -> Subgroups:
    """Share of positive predictions by subgroup; its `gap` is the demographic parity difference.

    Formula: gap = max_g P(ŷ = 1 | g) − min_g P(ŷ = 1 | g)

    Args:
        predictions: ŷ, [n]; booleans, or 0 and 1.
        groups: g, the subgroup of each row, [n]; integers, booleans or strings.
        least: rows below which a subgroup is listed but not compared.

    Raises:
        UserError: shapes differ, a prediction is neither 0 nor 1, or groups are floats or objects.

    Source: Agarwal et al., A Reductions Approach to Fair Classification, 2018, https://arxiv.org/abs/1803.02453

    Example:
        >>> demographic_parity(np.array([1, 1, 0, 1]), np.array(["a", "a", "b", "b"]), least=2).gap
        0.5
    """
    positive = check_answers(predictions, "predictions")
    return by_subgroup(_share, {"predictions": positive, "counts": np.ones(positive.shape, bool)}, groups, least)


class EqualizedOdds(NamedTuple):
    """True and false positive rates by subgroup.

    Attributes:
        true_positive_rate: share of positive predictions among the rows that are positive; NaN without such rows.
        false_positive_rate: share of positive predictions among the rows that are negative; NaN without such rows.
    """

    true_positive_rate: Subgroups
    false_positive_rate: Subgroups

    @property
    def gap(self) -> float:
        """Larger of the gaps of both rates; NaN if either is undefined."""
        return float(np.maximum(self.true_positive_rate.gap, self.false_positive_rate.gap))


@validated
def equalized_odds(
    labels: Binary, predictions: Binary, groups: Shaped[np.ndarray, " n"], least: Count = 30
) -> EqualizedOdds:
    """True and false positive rates by subgroup; its `gap` is the equalized odds difference.

    Formula: gap = max_{y ∈ {0, 1}} (max_g P(ŷ = 1 | y, g) − min_g P(ŷ = 1 | y, g))

    Args:
        labels: y, [n]; booleans, or 0 and 1.
        predictions: ŷ, [n]; booleans, or 0 and 1.
        groups: g, the subgroup of each row, [n]; integers, booleans or strings.
        least: rows below which a subgroup is listed but not compared.

    Raises:
        UserError: shapes differ, a label or prediction is neither 0 nor 1, or groups are floats or objects.

    Source: Hardt et al., Equality of Opportunity in Supervised Learning, 2016, https://arxiv.org/abs/1610.02413

    Example:
        >>> groups = np.array(["a", "a", "a", "b", "b", "b"])
        >>> equalized_odds(np.array([1, 1, 0, 1, 1, 0]), np.array([1, 1, 0, 1, 0, 0]), groups, least=2).gap
        0.5
    """
    actual, positive = check_answers(labels, "labels"), check_answers(predictions, "predictions")
    rates = (by_subgroup(_share, {"predictions": positive, "counts": c}, groups, least) for c in (actual, ~actual))
    return EqualizedOdds(*rates)
