"""What a classifier reaches at a required specificity or recall."""

import math

import numpy as np
from jaxtyping import Bool, Float, Integer

from mmkd_jax.metrics._inputs import check_answers, check_probabilities, check_scores
from mmkd_jax.metrics.ranking import Binary, by_threshold
from mmkd_jax.typing import Share
from mmkd_jax.validation import validated


@validated
def sensitivity_at_specificity(labels: Binary, scores: Float[np.ndarray, " n"], specificity: Share = 0.95) -> float:
    """Largest sensitivity (recall) of a threshold whose specificity is at least the required one.

    Formula: max_t {TP_t/P: TN_t/N ≥ specificity}; rows with a score ≥ t are predicted positive

    The threshold is chosen on these rows: a deployed one belongs to a validation split.

    Args:
        labels: which rows are positive, [n]; booleans, or 0 and 1.
        scores: s, [n]; larger for positive rows.
        specificity: required share of the negative rows that are predicted negative.

    Returns:
        0 … 1, 0 if only the threshold above all scores suffices; NaN if either class has no rows.

    Raises:
        UserError: shapes differ, a score is NaN, or a label is neither 0 nor 1; names the first row.

    Example:
        >>> sensitivity_at_specificity(np.array([1, 1, 0, 0]), np.array([0.9, 0.3, 0.5, 0.1]), 0.95)
        0.5
    """
    hits, wrong = by_threshold(check_answers(labels, "labels"), check_scores(scores))
    positive, negative = int(hits.sum()), int(wrong.sum())
    if not (positive and negative):
        return math.nan
    enough = (negative - np.cumsum(wrong)) / negative >= specificity
    return float(np.max(np.where(enough, np.cumsum(hits), 0)) / positive)


@validated
def precision_at_recall(labels: Binary, scores: Float[np.ndarray, " n"], recall: Share) -> float:
    """Largest precision of a threshold whose recall is at least the required one.

    Formula: max_t {TP_t/(TP_t + FP_t): TP_t/P ≥ recall}; rows with a score ≥ t, at least one, are predicted positive

    The threshold is chosen on these rows: a deployed one belongs to a validation split.

    Args:
        labels: which rows are positive, [n]; booleans, or 0 and 1.
        scores: s, [n]; larger for positive rows.
        recall: required share of the positive rows that are predicted positive.

    Returns:
        0 … 1, at least the share of positive rows; NaN without positive rows.

    Raises:
        UserError: shapes differ, a score is NaN, or a label is neither 0 nor 1; names the first row.

    Example:
        >>> precision_at_recall(np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.6]), 0.5)
        1.0
    """
    hits, wrong = by_threshold(check_answers(labels, "labels"), check_scores(scores))
    found, predicted = np.cumsum(hits), np.cumsum(hits + wrong)
    if not hits.any():
        return math.nan
    return float(np.max(np.where(found / found[-1] >= recall, found / predicted, 0)))


@validated
def best_thresholds(
    labels: Bool[np.ndarray, "n k"] | Integer[np.ndarray, "n k"],
    probabilities: Float[np.ndarray, "n k"],
    judged: Bool[np.ndarray, "n k"] | None = None,
    default: Share = 0.5,
) -> Float[np.ndarray, " k"]:
    """Thresholds with the largest F1 of each class, to choose on validation data.

    Formula: argmax_t 2TP_t/(2TP_t + FP_t + FN_t); rows with a probability ≥ t are predicted to have the class

    A threshold lies in the middle between two probabilities; of several with the same F1, it is the largest.

    Args:
        labels: which classes apply, [n, k]; booleans, or 0 and 1.
        probabilities: of the classes, [n, k].
        judged: which labels are known, [n, k]; None for all.
        default: threshold of a class without positive rows.

    Returns:
        Thresholds [k], as `tasks.multi_label` takes them.

    Raises:
        UserError: shapes differ, or a probability is not in 0 … 1; names the first row.

    Source: Lipton et al., Thresholding Classifiers to Maximize F1 Score, 2014, https://arxiv.org/abs/1402.1892

    Example:
        >>> best_thresholds(np.array([[1], [1], [0]]), np.array([[0.9], [0.3], [0.1]])).tolist()
        [0.2]
    """
    known = np.ones(labels.shape, bool) if judged is None else np.asarray(judged)
    p = check_probabilities(np.where(known, probabilities, 0))
    positive = check_answers(np.where(known, labels, 0), "labels")
    found = np.full(p.shape[1], float(default))
    for c in range(p.shape[1]):
        values, actual = p[known[:, c], c], positive[known[:, c], c]
        if not actual.any():
            continue
        hits, wrong = by_threshold(actual, values)
        f1 = 2 * np.cumsum(hits) / (np.cumsum(hits + wrong) + hits.sum())
        distinct = np.append(np.unique(values)[::-1], 0)
        i = int(np.argmax(f1))
        found[c] = (distinct[i] + distinct[i + 1]) / 2
    return found
