"""What is wrong with the rows of a metric is refused, and what is undefined is NaN."""

import math
from typing import Any

import numpy as np
import pytest

from mmkd_jax import metrics
from mmkd_jax.errors import UserError
from tests.metrics.every import EVERY, columns

FLOATS = {
    "scores": ("auroc", "average_precision", "sensitivity_at_specificity", "precision_at_recall", "ndcg", "recall_at"),
    "class_scores": ("mean_auroc", "mean_average_precision", "micro_average_precision"),
    "probabilities": ("expected_calibration_error", "adaptive_calibration_error", "brier", "negative_log_likelihood"),
    "values": ("concordance_correlation", "acc2"),
    "grades": ("ndcg", "hit_rate", "reciprocal_rank"),
}


def refusal(name: str, rows) -> str:
    with pytest.raises(UserError) as error:
        EVERY[name](rows)
    message = str(error.value)
    assert len(message) < 500 and "\n" not in message
    return message


@pytest.mark.parametrize(("column", "name"), [(c, n) for c, names in FLOATS.items() for n in names])
def test_nan_is_refused(column, name):
    """NaN in the scores, probabilities, predictions or relevance of a metric → refused, naming the first row."""
    rows = columns()
    rows[column] = rows[column].copy()
    rows[column][7, ...] = np.nan
    assert "nan in row 7" in refusal(name, rows)


@pytest.mark.parametrize("name", ["macro_f1", "quadratic_kappa", "balanced_accuracy", "mean_auroc", "brier", "span_f1"])
@pytest.mark.parametrize("wrong", [-1, 3])
def test_labels_out_of_range_are_refused(name, wrong):
    """A label, prediction or tag outside 0 … classes − 1 → refused, naming the first row."""
    for column in ("labels", "predictions") if name in ("macro_f1", "quadratic_kappa") else ("labels", "tags"):
        rows = columns()
        if (column == "tags") == (name == "span_f1"):
            rows[column][5, ...] = wrong
            assert f"{wrong} in row 5" in refusal(name, rows) and "0 … 2" in refusal(name, rows)


@pytest.mark.parametrize("name", ["auroc", "concordance_index", "demographic_parity"])
def test_answers_that_are_neither_0_nor_1_are_refused(name):
    """Binary labels or predictions that are neither 0 nor 1, such as −1 → refused, naming the first row."""
    rows = columns()
    for column in ("positive", "answers"):
        rows[column] = np.where(rows[column], 1, -1)
    rows["positive"][:3] = rows["answers"][:3] = [0, 1, -1]
    assert "-1 in row 2" in refusal(name, rows)


@pytest.mark.parametrize(
    "name", [n for n in EVERY if n not in ("demographic_parity", "equalized_odds", "acc2", "f1_nonnegative", "span_f1")]
)
def test_columns_of_different_lengths_are_refused(name):
    """Labels and predictions of different numbers of rows → refused, with both shapes."""
    rows = columns()
    for column in ("predictions", "scores", "class_scores", "probabilities", "values"):
        rows[column] = rows[column][:-1]
    assert "59" in (message := refusal(name, rows)) and "60" in message


def test_logits_in_place_of_probabilities_are_refused():
    """Logits in place of probabilities → refused by every metric of calibration."""
    rows = columns()
    rows["probabilities"] = rows["class_scores"]
    for name in FLOATS["probabilities"]:
        assert "pass softmax(logits)" in refusal(name, rows)
    with pytest.raises(UserError, match="the largest logit in row 1 is -inf"):
        metrics.softmax(np.array([[0.0, 1.0], [-np.inf, -np.inf]]))


@pytest.mark.parametrize("name", ["ndcg", "recall_at", "precision_at", "hit_rate", "reciprocal_rank", "retrieval_map"])
def test_k_larger_than_the_collection_is_refused(name):
    """k larger than the collection → refused, with its size."""
    scores, relevance = np.zeros((2, 5)), np.ones((2, 5))
    with pytest.raises(UserError, match="k is 6, but the largest collection of a query has 5 documents"):
        getattr(metrics, name)(scores, relevance, k=6)
    with pytest.raises(UserError, match="without queries"):
        getattr(metrics, name)(scores[0], relevance[0], k=1)
    with pytest.raises(UserError, match="with queries"):
        getattr(metrics, name)(scores, relevance, np.array([0, 1]), k=1)
    with pytest.raises(UserError, match="-1.0 in row 0, column 1"):
        getattr(metrics, name)(scores, np.array([[0, -1, 0, 0, 0]] * 2), k=1)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        (("O", "B-A", "E-A"), "tag 'E-A'; expected O, B-… or I-…"),
        (("O", "B-A", "A"), "tag 'A'"),
        (("O", "B-A", "B-A"), "distinct tags"),
        ("OBI", "distinct tags"),
    ],
)
def test_tags_of_other_schemes_are_refused(tags, words):
    """Tags that are not IOB2, or the same tag twice → refused."""
    rows = columns()
    with pytest.raises(UserError, match=words):
        metrics.span_f1(rows["tags"], rows["predicted_tags"], tags)


def test_a_text_in_place_of_a_list_of_answers_is_refused():
    """A text in place of a list of accepted answers, or an empty list → refused, naming the question."""
    for answers, words in ((["Paris", "Rome"], r"answers\[0\] is the text 'Paris'"), ([["x"], []], r"\[1\] is empty")):
        with pytest.raises(UserError, match=words):
            metrics.exact_match(["Paris", "Rome"], answers)
    with pytest.raises(UserError, match="predictions are 1 texts for 2 questions"):
        metrics.token_f1(["Paris"], [["a"], ["b"]])
    with pytest.raises(UserError, match="predictions are the text 'ab'"):
        metrics.token_f1("ab", [["a"], ["b"]])


def test_what_is_undefined_is_nan_and_counted():
    """A class without rows, or a query without relevant documents → NaN, left out of the mean, and counted."""
    found = metrics.mean_auroc(np.array([0, 0, 1]), np.eye(3))
    assert found.left_out == 1 and math.isnan(found.values[2]) and found.value == (0.75 + 0.25) / 2
    found = metrics.ndcg(np.eye(2), np.array([[1, 0], [0, 0]]))
    assert (found.value, found.left_out) == (1.0, 1)


def test_resampling_refuses_what_does_not_fit():
    """Columns of different lengths, groups that are floats, or an unknown column to renumber → refused."""

    def bootstrap(rows, **more: Any):
        return metrics.bootstrap(lambda r: 0.0, rows, **more)

    x = {"x": np.arange(4.0)}
    for rows, groups in ((x | {"y": np.arange(3.0)}, None), (x, np.arange(3))):
        with pytest.raises(UserError, match="columns have different rows"):
            bootstrap(rows, groups=groups)
    for words, more in {
        "groups are float64": {"groups": np.arange(4.0)},
        "no column 'q' to renumber; the rows have: x": {"renumber": ("q",)},
        "level is 1.0": {"level": 1.0},
        "repeats is 0": {"repeats": 0},
    }.items():
        with pytest.raises(UserError, match=words):
            bootstrap(x, **more)
    with pytest.raises(UserError, match=r"column 'x' is \[4\], but groups are \[3\]"):
        metrics.by_subgroup(lambda r: 0.0, x, np.arange(3))
    with pytest.raises(UserError, match=r"groups is int64\[3\], but n is 4 in predictions; expected shaped \[n\]"):
        metrics.demographic_parity(np.ones(4, int), np.arange(3))
