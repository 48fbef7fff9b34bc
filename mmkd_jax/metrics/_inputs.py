"""Checks of metric inputs that name the first bad row."""

import numpy as np
from jaxtyping import Bool, Float, Integer, Num, Shaped

from mmkd_jax.errors import UserError, shown


def _refuse(name: str, values: np.ndarray, bad: np.ndarray, remedy: str) -> None:
    if bad.any():
        at = [int(i) for i in np.argwhere(bad)[0]]
        column = f", column {at[1]}" if len(at) > 1 else ""
        more = f" ({int(bad.sum())} of {bad.size} values)" if bad.sum() > 1 else ""
        raise UserError(f"{name}: {values[tuple(at)]} in row {at[0]}{column}{more}; {remedy}")


def check_scores(scores: Float[np.ndarray, "..."], name: str = "scores") -> Float[np.ndarray, "..."]:
    """Return scores in float64; NaN, which has no rank, is refused."""
    scores = np.asarray(scores, np.float64)
    _refuse(name, scores, np.isnan(scores), "find out why the model gives NaN, or leave these rows out")
    return scores


def check_finite(values: Num[np.ndarray, "..."], name: str) -> Float[np.ndarray, "..."]:
    """Return values in float64; NaN and infinities are refused."""
    values = np.asarray(values, np.float64)
    _refuse(name, values, ~np.isfinite(values), "expected finite numbers: leave these rows out")
    return values


def check_probabilities(values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Return probabilities in float64; those outside 0 … 1, such as logits, are refused."""
    values = np.asarray(values, np.float64)
    _refuse(
        "probabilities", values, ~((values >= 0) & (values <= 1)), "expected 0 … 1, such as metrics.sigmoid(logits)"
    )
    return values


def check_labels(labels: Integer[np.ndarray, "..."], classes: int, name: str = "labels") -> Integer[np.ndarray, "..."]:
    """Return labels in int64; those outside 0 … classes − 1 are refused."""
    labels = np.asarray(labels)
    outside = (labels < 0) | (labels >= classes)
    _refuse(name, labels, outside, f"expected 0 … {classes - 1}: leave rows without a label or a prediction out")
    return labels.astype(np.int64)


def check_answers(values: Bool[np.ndarray, "..."] | Integer[np.ndarray, "..."], name: str) -> Bool[np.ndarray, "..."]:
    """Return booleans, also from integers 0 and 1; other integers are refused."""
    values = np.asarray(values)
    if values.dtype != bool:
        _refuse(name, values, (values != 0) & (values != 1), "expected booleans, or 0 and 1")
    return values.astype(bool)


def check_relevance(relevance: Num[np.ndarray, "..."] | Bool[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Return relevance in float64; negative and infinite grades and NaN are refused."""
    relevance = np.asarray(relevance, np.float64)
    bad = ~(np.isfinite(relevance) & (relevance >= 0))
    _refuse("relevance", relevance, bad, "expected grades from 0, for not relevant")
    return relevance


def membership(
    labels: Integer[np.ndarray, " n"] | Bool[np.ndarray, "n k"], classes: int
) -> Bool[np.ndarray, "n {classes}"]:
    """Return which classes each row belongs to, from one label per row or from the rows of a multi-label task."""
    if labels.ndim == 2:
        return np.asarray(labels)
    return check_labels(labels, classes)[:, None] == np.arange(classes)


def split(groups: Shaped[np.ndarray, " n"]) -> tuple[Shaped[np.ndarray, " g"], Integer[np.ndarray, " n"]]:
    """Return the groups in sorted order, and the index of each row's group."""
    groups = np.asarray(groups)
    if groups.dtype.kind not in "biuUST":
        raise UserError(f"groups are {shown(str(groups.dtype))}; expected integers, booleans or strings, one a row")
    return np.unique(groups, return_inverse=True)
