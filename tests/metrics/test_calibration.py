"""Calibration, against its formulas row by row and scikit-learn's scores."""

import itertools
import warnings

import numpy as np
import pytest
from sklearn import metrics as reference

from mmkd_jax import metrics


def rows(seed: int, classes: int = 4, count: int = 90) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, count)
    return labels, metrics.softmax(draw.normal(size=(count, classes)) + 2 * np.eye(classes)[labels], 0.7)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bins", [1, 4, 15])
def test_the_error_is_the_formula_bin_by_bin(seed, bins):
    y, p = rows(seed)
    confidence, right = p.max(1), p.argmax(1) == y
    expected = 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert metrics.expected_calibration_error(y, p, bins) == pytest.approx(expected, abs=1e-14)
    order = np.argsort(confidence)
    sizes, edges = [], [-(-b * len(y) // bins) for b in range(bins + 1)]
    expected = 0.0
    for low, high in itertools.pairwise(edges):
        inside = order[low:high]
        sizes.append(len(inside))
        expected += len(inside) / len(y) * abs(right[inside].mean() - confidence[inside].mean())
    assert max(sizes) - min(sizes) <= 1
    assert metrics.adaptive_calibration_error(y, p, bins) == pytest.approx(expected, abs=1e-14)


def test_bins_contain_their_upper_ends_only():
    p = np.array([[0.8, 0.2], [0.8000001, 0.1999999], [1.0, 0.0]])
    table = metrics.reliability(np.zeros(3, int), p, bins=5)
    assert table.count.tolist() == [0, 0, 0, 1, 2]
    assert np.array_equal(table.accuracy, [np.nan, np.nan, np.nan, 1, 1], equal_nan=True)
    assert table.low.tolist() == [0, 0.2, 0.4, 0.6, 0.8] and table.high[-1] == 1


def test_equal_confidences_are_in_one_bin():
    y = np.array([0, 0, 0, 1, 1, 1])
    p = np.tile([0.75, 0.25], (6, 1))
    for bins in (1, 2, 5):
        assert metrics.adaptive_calibration_error(y, p, bins) == 0.25  # split in half, it would depend on their order
        assert metrics.adaptive_calibration_error(y[::-1], p, bins) == 0.25


@pytest.mark.parametrize("seed", range(3))
def test_brier_and_likelihood_are_scikit_learn_s(seed):
    y, p = rows(seed)
    every = range(4)
    assert metrics.negative_log_likelihood(y, p) == pytest.approx(reference.log_loss(y, p, labels=every), abs=1e-14)
    brier = reference.brier_score_loss(y, p, labels=every, scale_by_half=False)
    assert metrics.brier(y, p) == pytest.approx(brier, abs=1e-14)
    y, p = rows(seed, classes=2)
    assert metrics.brier(y, p) == pytest.approx(2 * reference.brier_score_loss(y, p[:, 1]), abs=1e-14)


def test_a_label_of_probability_0_is_infinitely_unlikely_where_scikit_learn_clips():
    y, p = np.array([0, 1]), np.array([[1.0, 0.0], [1.0, 0.0]])
    assert metrics.negative_log_likelihood(y, p) == np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert 15 < reference.log_loss(y, p) < 19
    assert metrics.negative_log_likelihood(y[:1], p[:1]) == 0


def test_softmax_is_exact_far_out_and_keeps_excluded_classes_at_0():
    p = metrics.softmax(np.array([[1000.0, 1000.0, -np.inf]], np.float32), 0.5)
    assert p.tolist() == [[0.5, 0.5, 0.0]] and p.dtype == np.float64
