"""Confidence intervals of metrics over whole splits, by resampling."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, Shaped

from mmkd_jax.errors import UserError, choices
from mmkd_jax.metrics._inputs import split
from mmkd_jax.typing import Count, Share
from mmkd_jax.validation import validated

Rows = Mapping[str, np.ndarray]


class Interval(NamedTuple):
    """A metric and its confidence interval.

    Attributes:
        value: the metric of all rows.
        low: lower end; NaN if the metric, or all resamples, are undefined, or if there are fewer than two groups.
        high: upper end; NaN where `low` is.
        counted: number of resamples with a defined metric.
        left_out: number of resamples without.
        groups: number of groups that were resampled.
    """

    value: float
    low: float
    high: float
    counted: int
    left_out: int
    groups: int


@validated
def bootstrap_all(
    metrics: Callable[[Rows], Mapping[str, float]],
    rows: Rows,
    groups: Shaped[np.ndarray, " n"] | None = None,
    *,
    repeats: Count = 1000,
    seed: int = 0,
    level: Share = 0.95,
    renumber: Sequence[str] = (),
) -> dict[str, Interval]:
    """Bootstrap several metrics of the same rows at once: `bootstrap`, where the function returns name -> value.

    Example:
        >>> rows = {"error": np.array([0.0, 1.0, 2.0, 3.0])}
        >>> found = bootstrap_all(lambda rows: {"mean": float(np.mean(rows["error"]))}, rows, repeats=99)
        >>> found["mean"].value, found["mean"].low < 1.5 < found["mean"].high
        (1.5, True)
    """
    if not 0 < level < 1:
        raise UserError(f"level is {level}; expected a share between 0 and 1, such as 0.95")
    if missing := [name for name in renumber if name not in rows]:
        raise UserError(f"no column {missing[0]!r} to renumber; the rows have: {choices(rows)}")
    sizes = {name: np.shape(x)[:1] for name, x in rows.items()}
    sizes |= {} if groups is None else {"groups": groups.shape}
    if len(set(sizes.values())) != 1 or () in sizes.values():
        raise UserError(f"columns have different rows: { {k: list(v) for k, v in sizes.items()} }; give equal rows")
    count = next(iter(sizes.values()))[0]
    which = np.arange(count) if groups is None else split(groups)[1]
    order, lengths = np.argsort(which, kind="stable"), np.bincount(which)
    starts = np.cumsum(lengths) - lengths  # of each group within the order
    whole = {name: float(value) for name, value in metrics(rows).items()}
    draws: dict[str, list[float]] = {name: [] for name in whole}
    if len(lengths) > 1:
        random = np.random.default_rng(seed)
        for _ in range(repeats):
            drawn = random.integers(len(lengths), size=len(lengths))
            draw = np.repeat(np.arange(len(drawn)), lengths[drawn])
            within = np.arange(len(draw)) - (np.cumsum(lengths[drawn]) - lengths[drawn])[draw]
            index = order[starts[drawn][draw] + within]
            for name, value in metrics(_resampled(rows, index, draw, renumber)).items():
                draws[name].append(float(value))
    return {name: _interval(value, np.array(draws[name]), float(level), len(lengths)) for name, value in whole.items()}


def _resampled(
    rows: Rows, index: Integer[np.ndarray, " m"], draw: Integer[np.ndarray, " m"], renumber: Sequence[str]
) -> dict[str, np.ndarray]:
    """Rows at the indices; the values of renumbered columns are distinct by draw."""
    found = {name: np.asarray(x)[index] for name, x in rows.items()}
    for name in renumber:
        old = np.unique(found[name], return_inverse=True)[1]
        found[name] = np.unique(draw * len(index) + old, return_inverse=True)[1]
    return found


def _interval(value: float, draws: np.ndarray, level: float, groups: int) -> Interval:
    defined = draws[~np.isnan(draws)]
    low = high = math.nan
    if len(defined) and not math.isnan(value):
        low, high = (float(np.quantile(defined, q)) for q in ((1 - level) / 2, (1 + level) / 2))
    return Interval(value, low, high, len(defined), len(draws) - len(defined), groups)


@validated
def bootstrap(
    metric: Callable[[Rows], float],
    rows: Rows,
    groups: Shaped[np.ndarray, " n"] | None = None,
    *,
    repeats: Count = 1000,
    seed: int = 0,
    level: Share = 0.95,
    renumber: Sequence[str] = (),
) -> Interval:
    """Percentile interval of a metric, from resamples of whole groups with replacement.

    Formula: low, high = quantiles (1 ± level)/2 of metric(rows of G groups drawn with replacement), G their number

    Rows of one document, user or speaker are alike: resampled one by one, they give intervals that are too narrow. The
    same seed and groups draw the same resamples, so that differences between models can be taken pairwise. With few
    groups, below some 20, percentile intervals are too narrow as well.

    Args:
        metric: function of columns, such as `lambda rows: auroc(rows["label"], rows["score"])`.
        rows: name -> column, [n, ...].
        groups: the group of each row, [n]; integers, booleans or strings. None resamples single rows.
        repeats: number of resamples.
        seed: of the resamples.
        level: share of the resamples within the interval.
        renumber: columns that number queries or sequences within the groups: a group that is drawn twice counts as two,
            and `ndcg` would otherwise merge their documents into one query.

    Returns:
        The metric of all rows and its interval. Resamples where the metric is NaN are left out and counted.

    Raises:
        UserError: columns have different numbers of rows, groups are floats or objects, or the level is 0 or 1.

    Source: Efron, Bootstrap Methods: Another Look at the Jackknife, 1979, https://doi.org/10.1214/aos/1176344552;
        groups: Field and Welsh, Bootstrapping clustered data, 2007, https://doi.org/10.1111/j.1467-9868.2007.00593.x

    Example:
        >>> rows = {"right": np.array([1.0, 1.0, 0.0, 0.0, 1.0, 0.0])}
        >>> found = bootstrap(lambda rows: float(np.mean(rows["right"])), rows, np.array([0, 0, 1, 1, 2, 2]))
        >>> found.value, found.low, found.high, found.groups
        (0.5, 0.0, 1.0, 3)
    """

    def metrics(rows):
        return {"": metric(rows)}

    found = bootstrap_all(metrics, rows, groups, repeats=repeats, seed=seed, level=level, renumber=renumber)
    return found[""]
