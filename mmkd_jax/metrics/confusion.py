"""Metrics that are functions of a confusion matrix: accuracy, precision, recall, F1 and quadratic kappa."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64, Integer

from mmkd_jax.errors import UserError
from mmkd_jax.metrics._inputs import check_answers, check_labels
from mmkd_jax.metrics.mean import Mean, mean_over
from mmkd_jax.typing import Count
from mmkd_jax.validation import validated


@validated
def confusion_matrix(
    labels: Integer[np.ndarray, " n"], predictions: Integer[np.ndarray, " n"], classes: Count
) -> Int64[np.ndarray, "c c"]:
    """Count the rows of each label (row of the matrix) and each prediction (column).

    Args:
        labels: [n], from 0 to classes − 1.
        predictions: [n], from 0 to classes − 1.
        classes: c, number of classes; those without rows keep their row and column.

    Raises:
        UserError: shapes differ, or a label or prediction is out of range; names the first row.

    Example:
        >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
        [[1, 1], [0, 1]]
    """
    cells = classes * check_labels(labels, classes) + check_labels(predictions, classes, "predictions")
    return np.bincount(cells, minlength=classes * classes).astype(np.int64).reshape(classes, classes)


def _ratio(above, below) -> Float[np.ndarray, "..."]:
    return np.where(below == 0, np.nan, above / np.where(below == 0, 1, below))


class ClassCounts(NamedTuple):
    """Counts by class (or by type of span), and the precision, recall and F1 that follow from them.

    Formula: precision = hits/predicted; recall = hits/support; F1 = 2 hits/(predicted + support) = 2TP/(2TP + FP + FN)

    Attributes:
        hits: TP, rows of the class that are predicted as it, [c].
        predicted: TP + FP, rows predicted as the class, [c].
        support: TP + FN, rows of the class, [c].
    """

    hits: Int64[np.ndarray, " c"]
    predicted: Int64[np.ndarray, " c"]
    support: Int64[np.ndarray, " c"]

    @property
    def precision(self) -> Float[np.ndarray, " c"]:
        """Precision by class; NaN for a class that is never predicted."""
        return _ratio(self.hits, self.predicted)

    @property
    def recall(self) -> Float[np.ndarray, " c"]:
        """Recall by class; NaN for a class without rows."""
        return _ratio(self.hits, self.support)

    @property
    def f1(self) -> Float[np.ndarray, " c"]:
        """F1 by class; NaN for a class with neither rows nor predictions."""
        return _ratio(2 * self.hits, self.predicted + self.support)

    @property
    def micro(self) -> "ClassCounts":
        """The counts summed over the classes, as one class."""
        return ClassCounts(*(np.sum(x, keepdims=True) for x in self))


@validated
def class_counts(
    labels: Integer[np.ndarray, " n"], predictions: Integer[np.ndarray, " n"], classes: Count
) -> ClassCounts:
    """Counts by class of one label per row, as `confusion_matrix` takes them, without that matrix.

    Example:
        >>> class_counts(np.array([0, 0, 1]), np.array([0, 1, 1]), 3).f1.round(3).tolist()
        [0.667, 0.667, nan]
    """
    labels, predictions = check_labels(labels, classes), check_labels(predictions, classes, "predictions")
    each = (labels[labels == predictions], predictions, labels)
    return ClassCounts(*(np.bincount(x, minlength=classes).astype(np.int64) for x in each))


def counts_of(matrix: Int64[np.ndarray, "c c"]) -> ClassCounts:
    """Counts by class of a confusion matrix."""
    return ClassCounts(np.diagonal(matrix).copy(), matrix.sum(0), matrix.sum(1))


@validated
def multi_label_counts(
    labels: Bool[np.ndarray, "n k"] | Integer[np.ndarray, "n k"],
    predictions: Bool[np.ndarray, "n k"] | Integer[np.ndarray, "n k"],
    judged: Bool[np.ndarray, "n k"] | None = None,
) -> ClassCounts:
    """Counts by class of rows with any number of labels.

    Args:
        labels: which classes apply, [n, c]; booleans, or 0 and 1.
        predictions: which are predicted, [n, c].
        judged: which labels are known, [n, c]; None for all. The others do not count, whether right or wrong.

    Raises:
        UserError: shapes differ, or a judged value is neither 0 nor 1; names the first row and column.

    Example:
        >>> counts = multi_label_counts(np.array([[1, 0], [1, 1]]), np.array([[1, 1], [0, 1]]))
        >>> counts.f1.round(3).tolist(), counts.micro.f1.round(3).tolist()
        ([0.667, 0.667], [0.667])
    """
    judged = np.ones(labels.shape, bool) if judged is None else np.asarray(judged)
    actual, answers = (
        check_answers(np.where(judged, x, 0), name) & judged
        for x, name in ((labels, "labels"), (predictions, "predictions"))
    )
    return ClassCounts(*(np.asarray(np.count_nonzero(x, 0), np.int64) for x in (actual & answers, answers, actual)))


def _counts(labels, predictions, classes) -> ClassCounts:
    if labels.ndim != 2:
        if classes is None:
            raise UserError("classes is None; give the number of classes, so that those without rows are known")
        return class_counts(labels, predictions, classes)
    if classes not in (None, labels.shape[1]):
        raise UserError(f"classes is {classes}, but labels have {labels.shape[1]} columns; leave classes out")
    return multi_label_counts(labels, predictions)


Labels = Integer[np.ndarray, " n"] | Bool[np.ndarray, "n k"]


@validated
def macro_f1(labels: Labels, predictions: Labels, classes: Count | None = None) -> Mean:
    """Macro-F1: mean of the classes' F1, without the classes that have neither rows nor predictions.

    Formula: mean_c 2TP_c/(2TP_c + FP_c + FN_c)

    Args:
        labels: one label per row, [n] integers, or which classes apply, [n, c] booleans.
        predictions: as the labels.
        classes: number of classes; required with one label per row.

    Returns:
        `Mean` over classes; NaN without rows.

    Raises:
        UserError: shapes differ, or a label or prediction is out of range; names the first row.

    Source: Opitz and Burst, Macro F1 and Macro F1, 2019, https://arxiv.org/abs/1911.03347

    Example:
        >>> found = macro_f1(np.array([0, 1, 1]), np.array([0, 1, 1]), 3)
        >>> found.value, found.left_out
        (1.0, 1)
    """
    return mean_over(_counts(labels, predictions, classes).f1)


@validated
def micro_f1(labels: Labels, predictions: Labels, classes: Count | None = None) -> float:
    """Micro-F1: F1 of the counts summed over the classes; with one label per row, the accuracy.

    Formula: 2 Σ_c TP_c/Σ_c (2TP_c + FP_c + FN_c)

    Args:
        labels: one label per row, [n] integers, or which classes apply, [n, c] booleans.
        predictions: as the labels.
        classes: number of classes; required with one label per row.

    Returns:
        The score; NaN if no label is true and none is predicted.

    Raises:
        UserError: shapes differ, or a label or prediction is out of range; names the first row.

    Example:
        >>> micro_f1(np.array([[True, False], [True, True]]), np.array([[True, False], [True, False]]))
        0.8
    """
    return float(_counts(labels, predictions, classes).micro.f1[0])


@validated
def weighted_f1(labels: Labels, predictions: Labels, classes: Count | None = None) -> Mean:
    """Weighted F1: mean of the classes' F1, weighted by their rows.

    Formula: Σ_c n_c F1_c/Σ_c n_c, n_c rows of class c

    Args:
        labels: one label per row, [n] integers, or which classes apply, [n, c] booleans.
        predictions: as the labels.
        classes: number of classes; required with one label per row.

    Returns:
        `Mean` over classes; NaN if no class has rows.

    Raises:
        UserError: shapes differ, or a label or prediction is out of range; names the first row.

    Example:
        >>> round(weighted_f1(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), 2).value, 4)
        0.7667
    """
    counts = _counts(labels, predictions, classes)
    return mean_over(counts.f1, counts.support)


@validated
def accuracy(labels: Integer[np.ndarray, " n"], predictions: Integer[np.ndarray, " n"]) -> float:
    """Share of the rows whose prediction is the label; NaN without rows.

    Example:
        >>> accuracy(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]))
        0.75
    """
    return float(np.count_nonzero(labels == predictions) / len(labels)) if len(labels) else math.nan


@validated
def balanced_accuracy(
    labels: Integer[np.ndarray, " n"], predictions: Integer[np.ndarray, " n"], classes: Count
) -> Mean:
    """Balanced accuracy: mean recall of the classes that have rows.

    Args:
        labels: [n], from 0 to classes − 1.
        predictions: [n], from 0 to classes − 1.
        classes: number of classes.

    Returns:
        `Mean` over classes; NaN without rows.

    Raises:
        UserError: shapes differ, or a label or prediction is out of range; names the first row.

    Source: Brodersen et al., The balanced accuracy and its posterior distribution, 2010,
        https://doi.org/10.1109/ICPR.2010.764

    Example:
        >>> balanced_accuracy(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0]), 2).value
        0.5
    """
    return mean_over(class_counts(labels, predictions, classes).recall)


@validated
def quadratic_kappa(labels: Integer[np.ndarray, " n"], predictions: Integer[np.ndarray, " n"], classes: Count) -> float:
    """Quadratic weighted kappa of ordered classes: agreement beyond chance.

    Formula: κ = 1 − Σ_ij w_ij O_ij/Σ_ij w_ij E_ij; w_ij = (i − j)²/(c − 1)², O the confusion matrix, E_ij = r_i k_j/n
    from its margins

    Args:
        labels: [n], from 0 to classes − 1.
        predictions: [n], from 0 to classes − 1.
        classes: c, number of classes.

    Returns:
        −1 … 1; constant predictions give 0; NaN if labels and predictions are all of one class, and without rows.

    Raises:
        UserError: shapes differ, or a label or prediction is out of range; names the first row.

    Source: Cohen, Weighted kappa, 1968, https://doi.org/10.1037/h0026256

    Example:
        >>> quadratic_kappa(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 1]), 3)
        0.8
    """
    matrix = confusion_matrix(labels, predictions, classes)
    gap = (np.arange(classes)[:, None] - np.arange(classes)) ** 2
    found = sum(int(w) * int(o) for w, o in zip(gap.flat, matrix.flat, strict=True))  # exact
    chance = sum(int(w) * int(e) for w, e in zip(gap.flat, np.outer(matrix.sum(1), matrix.sum(0)).flat, strict=True))
    return (chance - found * len(labels)) / chance if chance else math.nan
