"""How well scores rank the rows of a class: AUROC and average precision, also over classes and labels."""

import math

import numpy as np
from jaxtyping import Bool, Float, Int64, Integer

from mmkd_jax.metrics._inputs import check_answers, check_scores, membership
from mmkd_jax.metrics.mean import Mean, mean_over
from mmkd_jax.validation import validated

Binary = Bool[np.ndarray, " n"] | Integer[np.ndarray, " n"]
Classes = Integer[np.ndarray, " n"] | Bool[np.ndarray, "n k"]


def by_threshold(
    positive: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]
) -> tuple[Int64[np.ndarray, " t"], Int64[np.ndarray, " t"]]:
    """Count the positive and the negative rows at each distinct score, from the largest down."""
    distinct, which = np.unique(scores, return_inverse=True)
    hits, wrong = (np.bincount(which[rows], minlength=len(distinct))[::-1] for rows in (positive, ~positive))
    return hits.astype(np.int64), wrong.astype(np.int64)


def _auroc(positive, scores) -> float:
    hits, wrong = by_threshold(positive, scores)
    pairs = int(hits.sum()) * int(wrong.sum())
    below = wrong.sum() - np.cumsum(wrong)
    return int(np.sum(hits * (2 * below + wrong))) / (2 * pairs) if pairs else math.nan


def _average_precision(positive, scores) -> float:
    hits, wrong = by_threshold(positive, scores)
    if not hits.any():
        return math.nan
    precision = np.cumsum(hits) / np.cumsum(hits + wrong)
    return math.fsum(hits * precision) / int(hits.sum())


@validated
def auroc(labels: Binary, scores: Float[np.ndarray, " n"]) -> float:
    """Area under the ROC curve: the probability that a positive row has a larger score than a negative one.

    Formula: P(s⁺ > s⁻) + P(s⁺ = s⁻)/2 over all pairs of a positive and a negative row

    Args:
        labels: which rows are positive, [n]; booleans, or 0 and 1.
        scores: s, [n]; larger for positive rows. May be infinite.

    Returns:
        0 … 1, 1/2 for constant scores; NaN if either class has no rows.

    Raises:
        UserError: shapes differ, a score is NaN, or a label is neither 0 nor 1; names the first row.

    Source: Hanley and McNeil, The meaning and use of the area under a ROC curve, 1982,
        https://doi.org/10.1148/radiology.143.1.7063747

    Example:
        >>> auroc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.8]))
        0.875
    """
    return _auroc(check_answers(labels, "labels"), check_scores(scores))


@validated
def average_precision(labels: Binary, scores: Float[np.ndarray, " n"]) -> float:
    """Average precision: area under the steps of the precision–recall curve, without interpolation.

    Formula: Σ_t (R_t − R_{t−1}) P_t over the distinct scores t, from the largest down; rows with a score ≥ t are
    predicted positive

    Args:
        labels: which rows are positive, [n]; booleans, or 0 and 1.
        scores: s, [n]; larger for positive rows. May be infinite.

    Returns:
        0 … 1, the share of positive rows for constant scores; NaN without positive rows.

    Raises:
        UserError: shapes differ, a score is NaN, or a label is neither 0 nor 1; names the first row.

    Source: Davis and Goadrich, The Relationship Between Precision-Recall and ROC Curves, 2006,
        https://doi.org/10.1145/1143844.1143874

    Example:
        >>> round(average_precision(np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.6])), 4)
        0.8333
    """
    return _average_precision(check_answers(labels, "labels"), check_scores(scores))


def _over_classes(metric, labels, scores, judged) -> Mean:
    scores = check_scores(np.where(judged, scores, 0) if judged is not None else scores)
    classes = scores.shape[1]
    actual = membership(labels, classes)
    judged = np.ones(scores.shape, bool) if judged is None else np.asarray(judged)
    found = [metric(actual[judged[:, c], c], scores[judged[:, c], c]) for c in range(classes)]
    return mean_over(np.array(found, np.float64))


@validated
def mean_auroc(
    labels: Classes, scores: Float[np.ndarray, "n k"], judged: Bool[np.ndarray, "n k"] | None = None
) -> Mean:
    """Mean AUROC of the classes, each against the rest, where a class has positive and negative rows.

    Args:
        labels: one class per row, [n] integers, or which classes apply, [n, k] booleans.
        scores: one per class, [n, k].
        judged: which labels are known, [n, k]; None for all. The others are left out, their scores may be NaN.

    Returns:
        `Mean` over classes; its `values` are the AUROC by class.

    Raises:
        UserError: shapes differ, a score is NaN, or a label is out of range; names the first row.

    Example:
        >>> scores = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.4, 0.5, 0.1]])
        >>> found = mean_auroc(np.array([0, 1, 0]), scores)
        >>> found.value, found.values.tolist()
        (1.0, [1.0, 1.0, nan])
    """
    return _over_classes(_auroc, labels, scores, judged)


@validated
def mean_average_precision(
    labels: Classes, scores: Float[np.ndarray, "n k"], judged: Bool[np.ndarray, "n k"] | None = None
) -> Mean:
    """Mean average precision (mAP) of the classes with a positive row.

    Args:
        labels: one class per row, [n] integers, or which classes apply, [n, k] booleans.
        scores: one per class, [n, k].
        judged: which labels are known, [n, k]; None for all. The others are left out, their scores may be NaN.

    Returns:
        `Mean` over classes; its `values` are the average precision by class.

    Raises:
        UserError: shapes differ, a score is NaN, or a label is out of range; names the first row.

    Example:
        >>> labels = np.array([[True, False, False], [False, True, False]])
        >>> found = mean_average_precision(labels, np.array([[0.9, 0.2, 0.5], [0.1, 0.8, 0.5]]))
        >>> found.value, found.left_out
        (1.0, 1)
    """
    return _over_classes(_average_precision, labels, scores, judged)


@validated
def micro_average_precision(
    labels: Classes, scores: Float[np.ndarray, "n k"], judged: Bool[np.ndarray, "n k"] | None = None
) -> float:
    """Micro average precision: that of all pairs of a row and a class, ranked together.

    Args:
        labels: one class per row, [n] integers, or which classes apply, [n, k] booleans.
        scores: one per class, [n, k], comparable across classes.
        judged: which labels are known, [n, k]; None for all. The others are left out, their scores may be NaN.

    Returns:
        0 … 1; NaN without positive labels.

    Raises:
        UserError: shapes differ, a score is NaN, or a label is out of range; names the first row.

    Example:
        >>> labels = np.array([[True, False], [False, True]])
        >>> round(micro_average_precision(labels, np.array([[0.9, 0.8], [0.1, 0.7]])), 4)
        0.8333
    """
    rows = np.ones(scores.shape, bool) if judged is None else np.asarray(judged)
    checked_scores = check_scores(np.where(rows, scores, 0))
    return _average_precision(membership(labels, scores.shape[1])[rows], checked_scores[rows])


@validated
def label_ranking_average_precision(
    labels: Classes, scores: Float[np.ndarray, "n k"], judged: Bool[np.ndarray, "n k"] | None = None
) -> Mean:
    """Label ranking average precision: how far up the labels of a row are among its classes.

    Formula: mean_i mean_{c ∈ Y_i} |{d ∈ Y_i: s_id ≥ s_ic}|/|{d: s_id ≥ s_ic}|, Y_i the labels of row i

    Args:
        labels: one class per row, [n] integers, or which classes apply, [n, k] booleans.
        scores: s, one per class, [n, k], comparable within a row.
        judged: which labels are known, [n, k]; None for all. The others are left out, their scores may be NaN.

    Returns:
        `Mean` over the rows that have a label.

    Raises:
        UserError: shapes differ, a score is NaN, or a label is out of range; names the first row.

    Source: Tsoumakas et al., Mining Multi-label Data, 2010, https://doi.org/10.1007/978-0-387-09823-4_34

    Example:
        >>> labels = np.array([[True, False, False], [False, False, False]])
        >>> found = label_ranking_average_precision(labels, np.array([[0.5, 0.9, 0.1], [0.1, 0.2, 0.3]]))
        >>> found.value, found.left_out
        (0.5, 1)
    """
    known = np.ones(scores.shape, bool) if judged is None else np.asarray(judged)
    ranked = check_scores(np.where(known, scores, 0))
    actual = membership(labels, scores.shape[1])
    rows = zip(actual, ranked, known, strict=True)
    return mean_over(np.array([_average_precision(a[j], s[j]) for a, s, j in rows], np.float64))
