"""AUROC, average precision and operating points, against scikit-learn and enumeration."""

import itertools

import numpy as np
import pytest
from sklearn import metrics as reference
from sklearn.exceptions import UndefinedMetricWarning

from mmkd_jax import metrics


def binary(seed: int, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    y = np.concatenate([[True, False], draw.random(30) < 0.4])
    s = draw.normal(size=32) + y
    return y, np.round(s) if ties else s


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_auroc_and_average_precision_are_scikit_learn_s(seed, ties):
    y, s = binary(seed, ties)
    pairs = [(a > b) + (a == b) / 2 for a, b in itertools.product(s[y], s[~y])]
    assert metrics.auroc(y, s) == pytest.approx(np.mean(pairs), abs=1e-14)
    assert metrics.auroc(y, s) == pytest.approx(reference.roc_auc_score(y, s), abs=1e-14)
    assert metrics.average_precision(y.astype(int), s) == pytest.approx(
        reference.average_precision_score(y, s), abs=1e-14
    )


def test_constant_scores_are_chance_and_an_empty_class_is_undefined():
    y = np.array([1, 0, 0, 0])
    assert metrics.auroc(y, np.zeros(4)) == 0.5 and metrics.average_precision(y, np.zeros(4)) == 0.25
    none = np.zeros(4, bool)
    assert np.isnan(metrics.auroc(none, np.zeros(4))) and np.isnan(metrics.auroc(~none, np.zeros(4)))
    assert np.isnan(metrics.average_precision(none, np.zeros(4)))
    with pytest.warns(UserWarning, match="No positive class"):
        assert reference.average_precision_score(none, np.zeros(4)) == 0


@pytest.mark.parametrize("seed", range(3))
def test_over_classes_and_labels_all_are_scikit_learn_s(seed):
    draw = np.random.default_rng(seed)
    y = draw.random((25, 4)) < 0.4
    y[:4] |= np.eye(4, dtype=bool)
    y[4:8] &= ~np.eye(4, dtype=bool)
    y[~y.any(1), 0] = True
    s = np.round(draw.normal(size=(25, 4)) + y, 1 if seed else 9)
    for value, expected in (
        (metrics.mean_auroc(y, s).value, reference.roc_auc_score(y, s, average="macro")),
        (metrics.mean_average_precision(y, s).value, reference.average_precision_score(y, s, average="macro")),
        (metrics.micro_average_precision(y, s), reference.average_precision_score(y, s, average="micro")),
        (
            metrics.label_ranking_average_precision(y, s).value,
            reference.label_ranking_average_precision_score(y, s),
        ),
    ):
        assert value == pytest.approx(expected, abs=1e-14)
    labels = np.concatenate([np.arange(4), draw.integers(0, 4, 21)])
    p = metrics.softmax(s)
    assert metrics.mean_auroc(labels, p).value == pytest.approx(
        reference.roc_auc_score(labels, p, multi_class="ovr"), abs=1e-14
    )


def test_map_leaves_out_a_class_without_positive_rows_where_scikit_learn_has_0():
    y = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0]], bool)
    s = np.array([[0.9, 0.2, 0.3], [0.1, 0.8, 0.2], [0.8, 0.1, 0.1]])
    found = metrics.mean_average_precision(y, s)
    assert (found.value, found.counted, found.left_out) == (1.0, 2, 1)
    assert np.array_equal(found.values, [1, 1, np.nan], equal_nan=True)
    with pytest.warns(UserWarning, match="No positive class"):
        assert reference.average_precision_score(y, s) == pytest.approx(2 / 3)
    assert metrics.mean_auroc(y, s).left_out == 1
    with pytest.warns(UndefinedMetricWarning):
        assert np.isnan(reference.roc_auc_score(y, s))


def test_ranking_ap_leaves_out_a_row_without_labels_where_scikit_learn_has_1():
    y, s = np.array([[1, 0], [0, 0]], bool), np.array([[0.1, 0.9], [0.5, 0.4]])
    found = metrics.label_ranking_average_precision(y, s)
    assert (found.value, found.left_out) == (0.5, 1)
    assert reference.label_ranking_average_precision_score(y, s) == 0.75


def test_labels_that_are_not_judged_do_not_count():
    draw = np.random.default_rng(3)
    y, s, judged = draw.random((20, 3)) < 0.5, draw.normal(size=(20, 3)), draw.random((20, 3)) < 0.6
    gaps = np.where(judged, s, np.nan)
    found = metrics.mean_average_precision(y, gaps, judged)
    for c in range(3):
        rows = judged[:, c]
        assert found.values[c] == pytest.approx(reference.average_precision_score(y[rows, c], s[rows, c]), abs=1e-14)
        expected = reference.roc_auc_score(y[rows, c], s[rows, c])
        assert metrics.mean_auroc(y, gaps, judged).values[c] == pytest.approx(expected, abs=1e-14)
    micro = reference.average_precision_score(y[judged], s[judged])
    assert metrics.micro_average_precision(y, gaps, judged) == pytest.approx(micro, abs=1e-14)
    other = np.where(judged, y, ~y)
    assert metrics.label_ranking_average_precision(other, gaps, judged).value == (
        metrics.label_ranking_average_precision(y, gaps, judged).value
    )


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_operating_points_are_the_best_of_every_threshold(seed, ties):
    y, s = binary(seed, ties)
    every = [s >= t for t in [*np.unique(s), np.inf]]
    for level in (0.0, 0.5, 0.8, 0.95, 1.0):
        enough = [p[y].mean() for p in every if (~p[~y]).mean() >= level]
        assert metrics.sensitivity_at_specificity(y, s, level) == pytest.approx(max(enough))
        enough = [y[p].mean() for p in every if p.any() and p[y].mean() >= level]
        assert metrics.precision_at_recall(y, s, level) == pytest.approx(max(enough))


def test_a_share_that_is_reached_exactly_is_reached():
    y = np.arange(100) < 0
    y = np.concatenate([y, np.ones(10, bool)])
    s = np.concatenate([np.arange(100), np.full(10, 6.5)])
    assert metrics.sensitivity_at_specificity(y, s, 0.07) == 1.0  # 7 of 100; 0.07 · 100 is 7.000000000000001
    assert np.isnan(metrics.sensitivity_at_specificity(~y[:5], s[:5], 0.9))
    assert np.isnan(metrics.precision_at_recall(y[:5], s[:5], 0.9))


@pytest.mark.parametrize("seed", range(4))
def test_thresholds_by_enumeration(seed):
    draw = np.random.default_rng(seed)
    labels, p = draw.random((40, 3)) < 0.3, np.round(draw.random((40, 3)), 1 + seed % 2)
    judged = draw.random((40, 3)) < 0.8
    labels[:, 2] = False
    found = metrics.best_thresholds(labels, p, judged)
    assert found[2] == 0.5
    for c in range(2):
        y, s = labels[judged[:, c], c], p[judged[:, c], c]
        best = max(reference.f1_score(y, s >= t) for t in np.linspace(0, 1, 401))
        assert reference.f1_score(y, s >= found[c]) == pytest.approx(best, abs=1e-12)
