"""Calibration: whether a classifier's probabilities are the shares of rows in which it is right."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64, Integer

from mmkd_jax.errors import UserError
from mmkd_jax.metrics._inputs import check_finite, check_labels, check_scores
from mmkd_jax.typing import Count, Positive
from mmkd_jax.validation import validated


class Reliability(NamedTuple):
    """Reliability table: confidence and accuracy of the rows in each bin of confidence.

    Attributes:
        low: lower ends of the bins, [bins], exclusive.
        high: upper ends of the bins, [bins], inclusive.
        count: rows in each bin, [bins].
        confidence: mean of the largest probability, [bins]; NaN in a bin without rows.
        accuracy: share of right rows, [bins]; NaN in a bin without rows.
    """

    low: Float[np.ndarray, " bins"]
    high: Float[np.ndarray, " bins"]
    count: Int64[np.ndarray, " bins"]
    confidence: Float[np.ndarray, " bins"]
    accuracy: Float[np.ndarray, " bins"]

    @property
    def error(self) -> float:
        """Calibration error Σ_b n_b/n |accuracy_b − confidence_b|; NaN without rows."""
        rows, full = int(self.count.sum()), self.count > 0
        if not rows:
            return math.nan
        return math.fsum((self.count * np.abs(self.accuracy - self.confidence))[full]) / rows


@validated
def sigmoid(logits: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Probabilities of independent logits in float64.

    Formula: p = 1/(1 + exp(−z))

    Example:
        >>> sigmoid(np.array([0.0, -1000.0])).tolist()
        [0.5, 0.0]
    """
    return np.exp(-np.logaddexp(0, -check_scores(logits, "logits")))


@validated
def softmax(logits: Float[np.ndarray, "n k"], temperature: Positive = 1.0) -> Float[np.ndarray, "n k"]:
    """Probabilities of logits in float64, as the metrics of calibration take them.

    Formula: p_c = exp(z_c/T)/Σ_d exp(z_d/T)

    Args:
        logits: z, [n, k]; −inf for classes that are excluded.
        temperature: T.

    Raises:
        UserError: a logit is NaN or +inf, or a row has none above −inf; names the first row.

    Example:
        >>> softmax(np.array([[0.0, np.log(3.0)]])).round(6).tolist()
        [[0.25, 0.75]]
    """
    logits = check_scores(logits, "logits")
    top = np.max(logits, -1, keepdims=True, initial=-np.inf)
    if len(bad := np.flatnonzero(~np.isfinite(top))):
        raise UserError(f"the largest logit in row {bad[0]} is {top[bad[0], 0]}; expected a finite one in each row")
    weights = np.exp((logits - top) / float(temperature))
    return weights / np.sum(weights, -1, keepdims=True)


def _checked(labels, probabilities):
    """Return labels in range and probabilities in float64; logits, whose rows do not sum to 1, are refused."""
    p = np.ascontiguousarray(check_finite(probabilities, "probabilities"))
    bad = np.any((p < 0) | (p > 1.01), -1) | (np.abs(np.sum(p, -1) - 1) > 0.01)
    if len(rows := np.flatnonzero(bad)):
        raise UserError(
            f"probabilities in row {rows[0]} are {np.min(p[rows[0]]):g} … {np.max(p[rows[0]]):g} and sum to "
            f"{np.sum(p[rows[0]]):g} ({len(rows)} such rows); for logits, pass softmax(logits)"
        )
    return check_labels(labels, p.shape[1]), p


def _confidence(labels, probabilities) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    labels, p = _checked(labels, probabilities)
    return (np.max(p, -1), np.argmax(p, -1) == labels) if p.size else (np.zeros(0), np.zeros(0, bool))


def _table(confidence, right, ends) -> Reliability:
    """Reliability table of the bins between adjacent ends, (low, high]."""
    which = np.clip(np.searchsorted(ends, confidence, "left") - 1, 0, len(ends) - 2)
    order = np.argsort(which, kind="stable")
    count = np.bincount(which, minlength=len(ends) - 1).astype(np.int64)
    full, size = count > 0, np.maximum(count, 1)
    total = np.array([math.fsum(x) for x in np.split(confidence[order], np.cumsum(count)[:-1])])
    hits = np.bincount(which[right], minlength=len(ends) - 1)
    means = (np.where(full, x / size, np.nan) for x in (total, hits))
    return Reliability(ends[:-1], ends[1:], count, *means)


@validated
def reliability(
    labels: Integer[np.ndarray, " n"], probabilities: Float[np.ndarray, "n k"], bins: Count = 15
) -> Reliability:
    """Reliability table: rows, confidence and accuracy in equally wide bins (l, r] of the largest probability.

    Args:
        labels: [n], from 0 to k − 1.
        probabilities: [n, k], rows sum to 1. Of equal largest ones, the first is the prediction.
        bins: number of bins.

    Raises:
        UserError: shapes differ, a label is out of range, or a row sums to 0.99 or less, or 1.01 or more.

    Source: Guo et al., On Calibration of Modern Neural Networks, 2017, https://arxiv.org/abs/1706.04599

    Example:
        >>> table = reliability(np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]]), bins=2)
        >>> table.count.tolist(), table.accuracy.tolist(), round(float(table.confidence[1]), 3)
        ([0, 2], [nan, 0.5], 0.85)
    """
    return _table(*_confidence(labels, probabilities), np.arange(bins + 1) / bins)


@validated
def expected_calibration_error(
    labels: Integer[np.ndarray, " n"], probabilities: Float[np.ndarray, "n k"], bins: Count = 15
) -> float:
    """Expected calibration error (ECE) over equally wide bins (l, r] of the largest probability.

    Formula: Σ_b n_b/n |accuracy_b − confidence_b|

    Args:
        labels: [n], from 0 to k − 1.
        probabilities: [n, k], rows sum to 1. Of equal largest ones, the first is the prediction.
        bins: number of bins.

    Returns:
        0 … 1; NaN without rows.

    Raises:
        UserError: shapes differ, a label is out of range, or a row does not sum to 1.

    Source: Guo et al., On Calibration of Modern Neural Networks, 2017, https://arxiv.org/abs/1706.04599

    Example:
        >>> round(expected_calibration_error(np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]])), 3)
        0.45
    """
    return reliability(labels, probabilities, bins).error


@validated
def adaptive_calibration_error(
    labels: Integer[np.ndarray, " n"], probabilities: Float[np.ndarray, "n k"], bins: Count = 15
) -> float:
    """Expected calibration error over bins of equally many rows.

    Formula: Σ_b n_b/n |accuracy_b − confidence_b|; the upper end of bin b is the ⌈b n/bins⌉-th smallest confidence

    Rows of equal confidence are in one bin, so that the value does not depend on the order of the rows; where many are
    equal, bins are larger and fewer.

    Args:
        labels: [n], from 0 to k − 1.
        probabilities: [n, k], rows sum to 1. Of equal largest ones, the first is the prediction.
        bins: number of bins.

    Returns:
        0 … 1; NaN without rows.

    Raises:
        UserError: shapes differ, a label is out of range, or a row does not sum to 1.

    Source: Nguyen and O'Connor, Posterior calibration and exploratory analysis for natural language processing models,
        2015, https://arxiv.org/abs/1508.05154

    Example:
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
        >>> round(adaptive_calibration_error(np.array([0, 1, 0, 1]), p, bins=2), 3)
        0.25
    """
    confidence, right = _confidence(labels, probabilities)
    last = -(-np.arange(1, bins + 1) * len(confidence) // bins) - 1  # exact ⌈b n/bins⌉
    ends = np.unique(np.sort(confidence)[last[last >= 0]])
    return _table(confidence, right, np.concatenate([[-np.inf], ends])).error if len(ends) else math.nan


@validated
def brier(labels: Integer[np.ndarray, " n"], probabilities: Float[np.ndarray, "n k"]) -> float:
    """Brier score: mean squared distance of the probabilities from the labels, summed over classes.

    Formula: mean_i Σ_c (p_ic − 1[y_i = c])²

    Args:
        labels: y, [n], from 0 to k − 1.
        probabilities: p, [n, k], rows sum to 1.

    Returns:
        0 … 2; NaN without rows. Of two classes, it is twice the score of one probability.

    Raises:
        UserError: shapes differ, a label is out of range, or a row does not sum to 1.

    Source: Brier, Verification of Forecasts Expressed in Terms of Probability, 1950

    Example:
        >>> brier(np.array([0, 1]), np.array([[1.0, 0.0], [0.5, 0.5]]))
        0.25
    """
    labels, p = _checked(labels, probabilities)
    distance = np.sum((p - (labels[:, None] == np.arange(p.shape[1]))) ** 2, -1)
    return math.fsum(distance) / len(distance) if len(distance) else math.nan


@validated
def negative_log_likelihood(labels: Integer[np.ndarray, " n"], probabilities: Float[np.ndarray, "n k"]) -> float:
    """Negative log-likelihood of the labels, in nats.

    Formula: −mean_i log p_{i,y_i}

    Args:
        labels: y, [n], from 0 to k − 1.
        probabilities: p, [n, k], rows sum to 1.

    Returns:
        0 … inf; infinite if a label has probability 0, which is not clipped; NaN without rows.

    Raises:
        UserError: shapes differ, a label is out of range, or a row does not sum to 1.

    Example:
        >>> round(negative_log_likelihood(np.array([0, 1]), np.array([[0.5, 0.5], [0.75, 0.25]])), 4)
        1.0397
    """
    labels, p = _checked(labels, probabilities)
    if not len(labels):
        return math.nan
    found = p[np.arange(len(labels)), labels]
    return abs(math.fsum(-np.log(np.where(found > 0, found, 1)))) / len(labels) if np.all(found > 0) else math.inf
