"""Metrics of a confusion matrix, against scikit-learn and, where it differs, against the definition."""

import warnings

import numpy as np
import pytest
from sklearn import metrics as reference
from sklearn.exceptions import UndefinedMetricWarning

from mmkd_jax import metrics


def rows(seed: int, classes: int, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Labels of every class, and predictions that are often right and contain every class."""
    draw = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), draw.integers(0, classes, count)])
    random = np.concatenate([np.roll(np.arange(classes), 1), draw.integers(0, classes, count)])
    return labels, np.where(draw.random(len(labels)) < 0.5, labels, random)


@pytest.mark.parametrize("seed", range(4))
def test_with_every_class_all_are_scikit_learn_s(seed):
    classes = 2 + seed
    y, x = rows(seed, classes)
    every = range(classes)
    assert np.array_equal(metrics.confusion_matrix(y, x, classes), reference.confusion_matrix(y, x, labels=every))
    assert metrics.accuracy(y, x) == reference.accuracy_score(y, x)
    found = {
        "macro": metrics.macro_f1(y, x, classes).value,
        "micro": metrics.micro_f1(y, x, classes),
        "weighted": metrics.weighted_f1(y, x, classes).value,
    }
    for average, value in found.items():
        assert value == pytest.approx(reference.f1_score(y, x, labels=every, average=average), abs=1e-14)
    balanced = metrics.balanced_accuracy(y, x, classes)
    assert balanced.value == pytest.approx(reference.balanced_accuracy_score(y, x), abs=1e-14)
    kappa = reference.cohen_kappa_score(y, x, labels=every, weights="quadratic")
    assert metrics.quadratic_kappa(y, x, classes) == pytest.approx(kappa, abs=1e-14)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("digits", [2, 4])
def test_the_report_is_scikit_learn_s_to_the_digit(seed, digits):
    y, x = rows(seed, 4)
    names = ("cat", "dog", "a much longer name", "d")
    if seed % 3 == 1:  # a class with neither rows nor predictions, and one that is never predicted
        y, x = np.where(y == 1, 0, y), np.where((x == 1) | (x == 2), 3, x)
    if seed % 3 == 2:
        names = None
    expected = reference.classification_report(
        y, x, labels=range(4), target_names=names, digits=digits, zero_division=np.nan
    )
    assert metrics.classification_report(y, x, 4, names).text(digits) == expected
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        default = reference.classification_report(y, x, labels=range(4), target_names=names, digits=digits)
    assert (default == expected) == (seed % 3 != 1)  # by default, it prints 0.00 for what is undefined


def test_the_report_holds_its_numbers():
    report = metrics.classification_report(np.array([0, 0, 2]), np.array([0, 2, 2]), 3)
    assert report.names == ("0", "1", "2") and report.confusion.tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 1]]
    assert report.accuracy == pytest.approx(2 / 3)
    assert np.array_equal(report.counts.precision, [1, np.nan, 0.5], equal_nan=True)
    assert report.counts.support.tolist() == [2, 0, 1]
    assert report.macro["recall"].value == 0.75 and report.macro["recall"].left_out == 1
    assert report.weighted["recall"].value == pytest.approx(2 / 3)


def test_macro_f1_leaves_out_a_class_without_rows_and_predictions_where_scikit_learn_has_0():
    y = x = np.array([0, 1, 1, 0])
    found = metrics.macro_f1(y, x, 3)
    assert (found.value, found.counted, found.left_out) == (1.0, 2, 1)
    with pytest.warns(UndefinedMetricWarning):
        assert reference.f1_score(y, x, labels=range(3), average="macro") == pytest.approx(2 / 3)
    assert reference.f1_score(y, x, average="macro") == 1.0  # the same rows, without labels=


def test_a_class_that_is_only_predicted_or_only_missed_has_f1_0():
    assert metrics.macro_f1(np.array([0, 0]), np.array([0, 1]), 2).values.tolist() == [pytest.approx(2 / 3), 0]
    assert metrics.macro_f1(np.array([0, 1]), np.array([0, 0]), 2).values.tolist() == [pytest.approx(2 / 3), 0]


def test_kappa_of_constant_predictions_is_0_and_of_one_class_undefined():
    y = np.array([0, 1, 2, 2])
    assert metrics.quadratic_kappa(y, np.ones(4, int), 3) == 0
    one = np.ones(4, int)
    assert np.isnan(metrics.quadratic_kappa(one, one, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.isnan(reference.cohen_kappa_score(one, one, labels=range(3), weights="quadratic"))
    # without labels=, scikit-learn numbers the classes that occur: 0 and 2 become neighbors
    y, x = np.array([0, 2, 2, 3]), np.array([0, 2, 3, 3])
    assert metrics.quadratic_kappa(y, x, 4) != pytest.approx(reference.cohen_kappa_score(y, x, weights="quadratic"))


def test_micro_f1_of_no_labels_and_no_predictions_is_undefined_where_scikit_learn_has_0():
    none = np.zeros((3, 2), bool)
    assert np.isnan(metrics.micro_f1(none, none)) and np.isnan(metrics.macro_f1(none, none).value)
    with pytest.warns(UndefinedMetricWarning):
        assert reference.f1_score(none, none, average="micro") == 0


def test_balanced_accuracy_leaves_out_a_class_without_rows():
    found = metrics.balanced_accuracy(np.array([0, 0, 1]), np.array([0, 2, 1]), 3)
    assert (found.value, found.left_out) == (0.75, 1)


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_many_labels_are_scikit_learn_s(seed):
    draw = np.random.default_rng(seed)
    y, x = (draw.random((40, 5)) < 0.4 for _ in range(2))
    for average, value in (
        ("macro", metrics.macro_f1(y, x).value),
        ("micro", metrics.micro_f1(y, x)),
        ("weighted", metrics.weighted_f1(y, x).value),
    ):
        assert value == pytest.approx(reference.f1_score(y, x, average=average), abs=1e-14)
    judged = draw.random((40, 5)) < 0.7
    counts = metrics.multi_label_counts(np.where(judged, y, -1), x.astype(int), judged)
    for c in range(5):
        of_class = reference.f1_score(y[judged[:, c], c], x[judged[:, c], c])
        assert counts.f1[c] == pytest.approx(of_class, abs=1e-14)
