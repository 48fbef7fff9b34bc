"""What holds of every metric: the same bits in any order of the rows, and NaN without rows."""

import math

import numpy as np
import pytest

from mmkd_jax import metrics
from tests.metrics.every import EVERY, columns, number


@pytest.mark.parametrize("name", EVERY)
def test_the_order_of_the_rows_changes_no_bit(name):
    rows = columns()
    found = number(EVERY[name](rows))
    assert math.isfinite(found)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(rows["labels"]))
        assert number(EVERY[name]({k: x[order] for k, x in rows.items()})) == found


@pytest.mark.parametrize("name", EVERY)
def test_without_rows_it_is_undefined(name):
    assert math.isnan(number(EVERY[name](columns(count=0))))


@pytest.mark.parametrize("name", EVERY)
def test_inputs_are_left_alone_and_float32_is_computed_in_float64(name):
    rows = columns()
    narrow = {k: x.astype(np.float32) if x.dtype == np.float64 else x for k, x in rows.items()}
    before = {k: x.copy() for k, x in narrow.items()}
    found = number(EVERY[name](narrow))
    wide = {k: x.astype(np.float64) if x.dtype == np.float32 else x for k, x in narrow.items()}
    assert number(EVERY[name](wide)) == found
    assert all(np.array_equal(before[k], narrow[k]) for k in before)


def test_every_function_of_rows_is_here():
    other = {"confusion_matrix", "class_counts", "multi_label_counts", "classification_report"}  # counts
    other |= {
        "best_thresholds",
        "sigmoid",
        "reliability",
        "softmax",
        "mean_over",
        "decode_spans",
        "bootstrap",
        "bootstrap_all",
        "by_subgroup",
    }
    other |= {"answer_tokens", "exact_match", "token_f1"}  # of texts
    other |= {"similarities"}  # of embeddings
    public = {n for n, v in vars(metrics).items() if callable(v) and n[0].islower()}
    assert public - other - {"sentiment_scores"} == set(EVERY) - {"acc2", "f1_nonnegative"}


def test_a_mean_says_what_it_left_out():
    found = metrics.mean_over(np.array([np.nan, np.nan]))
    assert math.isnan(found.value) and (found.counted, found.left_out) == (0, 2)
