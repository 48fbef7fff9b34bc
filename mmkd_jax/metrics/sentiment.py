"""Metrics of sentiment intensity on a scale from −3 to 3, in each of the published forms."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mmkd_jax.metrics._inputs import check_finite
from mmkd_jax.metrics.confusion import accuracy, weighted_f1
from mmkd_jax.validation import validated


class SentimentScores(NamedTuple):
    """Accuracies and F1 of sentiment intensities.

    Attributes:
        acc7: accuracy of the integers −3 … 3.
        acc5: accuracy of the integers −2 … 2.
        acc2_nonnegative: accuracy of "≥ 0", over all rows.
        f1_nonnegative: weighted F1 of "≥ 0", over all rows.
        acc2_positive: accuracy of "> 0", over the rows whose target is not 0.
        f1_positive: weighted F1 of "> 0", over the rows whose target is not 0.
        nonzero: number of rows whose target is not 0.
    """

    acc7: float
    acc5: float
    acc2_nonnegative: float
    f1_nonnegative: float
    acc2_positive: float
    f1_positive: float
    nonzero: int


@validated
def sentiment_scores(predictions: Float[np.ndarray, " n"], targets: Float[np.ndarray, " n"]) -> SentimentScores:
    """Accuracy with seven, five and two classes, and weighted F1, of sentiment intensities.

    Formula: acc-7 and acc-5 compare round(clip(x, ±3)) and round(clip(x, ±2)), halves to even; acc-2 compares x ≥ 0
    over all rows, or x > 0 over the rows with y ≠ 0

    Published code mixes the two forms of acc-2: state which one a table shows. F1 is weighted by the rows of each sign.

    Args:
        predictions: x, [n].
        targets: y, [n].

    Returns:
        All of them; NaN without rows, or without rows whose target is not 0.

    Raises:
        UserError: shapes differ, or a value is not finite; names the first row.

    Source: Tsai et al., Multimodal Transformer for Unaligned Multimodal Language Sequences, 2019,
        https://arxiv.org/abs/1906.00295; both forms: Yu et al., Learning Modality-Specific Representations with
        Self-Supervised Multi-Task Learning, 2021, https://arxiv.org/abs/2102.04830

    Example:
        >>> found = sentiment_scores(np.array([2.6, -0.2, 0.3, -0.4]), np.array([3.0, -1.0, -0.2, 0.0]))
        >>> found.acc7, found.acc2_nonnegative, round(found.acc2_positive, 4), found.nonzero
        (0.75, 0.5, 0.6667, 3)
    """
    x, y = check_finite(predictions, "predictions"), check_finite(targets, "targets")

    def rounded(limit):
        return float(np.mean(_rounded(x, limit) == _rounded(y, limit))) if len(x) else math.nan

    def two(answers, labels):
        labels, answers = labels.astype(np.int64), answers.astype(np.int64)
        return accuracy(labels, answers), weighted_f1(labels, answers, 2).value

    signed = y != 0
    acc_nonnegative, f1_nonnegative = two(x >= 0, y >= 0)
    acc_positive, f1_positive = two(x[signed] > 0, y[signed] > 0)
    return SentimentScores(
        rounded(3), rounded(2), acc_nonnegative, f1_nonnegative, acc_positive, f1_positive, int(signed.sum())
    )


def _rounded(x: Float[np.ndarray, " n"], limit: int) -> Float[np.ndarray, " n"]:
    return np.round(np.clip(x, -limit, limit))
