"""Metrics by subgroup, against fairlearn."""

import numpy as np
import pytest
from fairlearn.metrics import MetricFrame, demographic_parity_difference, equalized_odds_difference
from sklearn.metrics import accuracy_score

from mmkd_jax import metrics


@pytest.mark.parametrize("seed", range(3))
def test_gaps_are_fairlearn_s(seed):
    draw = np.random.default_rng(seed)
    y, x = draw.random(90) < 0.5, draw.random(90) < 0.5
    groups = draw.choice(["a", "b", "c"], 90)
    parity = demographic_parity_difference(y, x, sensitive_features=groups)
    assert metrics.demographic_parity(x, groups, least=1).gap == pytest.approx(parity, abs=1e-14)
    odds = equalized_odds_difference(y, x, sensitive_features=groups)
    assert metrics.equalized_odds(y, x, groups, least=1).gap == pytest.approx(odds, abs=1e-14)
    frame = MetricFrame(metrics=accuracy_score, y_true=y, y_pred=x, sensitive_features=groups)
    rows = {"label": y.astype(int), "prediction": x.astype(int)}
    found = metrics.by_subgroup(lambda r: metrics.accuracy(r["label"], r["prediction"]), rows, groups, least=1)
    assert found.names == ("a", "b", "c") and found.values == pytest.approx(list(frame.by_group), abs=1e-14)
    assert found.gap == pytest.approx(frame.difference(), abs=1e-14)
    assert found.values[found.names.index(found.lowest)] == pytest.approx(frame.group_min(), abs=1e-14)
    assert found.values[found.names.index(found.highest)] == pytest.approx(frame.group_max(), abs=1e-14)


def test_small_subgroups_are_listed_and_not_compared_where_fairlearn_compares_them():
    groups = np.repeat([0, 1, 2], [40, 40, 3])
    x = np.concatenate([np.arange(40) < 20, np.arange(40) < 10, np.ones(3)]).astype(int)
    found = metrics.demographic_parity(x, groups)
    assert found.rows.tolist() == [40, 40, 3] and found.values.tolist() == [0.5, 0.25, 1.0]
    assert found.compared.tolist() == [True, True, False]
    assert (found.gap, found.lowest, found.highest) == (0.25, "1", "0")
    assert demographic_parity_difference(x, x, sensitive_features=groups) == 0.75
    alone = metrics.demographic_parity(x, np.zeros(83, int))
    assert np.isnan(alone.gap) and alone.lowest == "0"
    assert metrics.demographic_parity(x[-3:], groups[-3:]).lowest == ""


def test_a_rate_without_rows_is_undefined_where_fairlearn_has_0():
    y, x = np.array([1, 1, 0, 0, 0, 0]), np.array([1, 0, 1, 0, 0, 0])
    groups = np.array(["a", "a", "a", "a", "b", "b"])
    found = metrics.equalized_odds(y, x, groups, least=1)
    assert np.isnan(found.true_positive_rate.values[1]) and np.isnan(found.gap)
    assert found.false_positive_rate.gap == 0.5
    assert equalized_odds_difference(y, x, sensitive_features=groups) == 0.5
