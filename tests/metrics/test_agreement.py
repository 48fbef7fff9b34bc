"""Lin's and Harrell's concordance, against their definitions."""

import numpy as np
import pytest

from mmkd_jax import metrics


@pytest.mark.parametrize("seed", range(3))
def test_lin_s_concordance_is_its_formula(seed):
    draw = np.random.default_rng(seed)
    y = draw.normal(2, 3, 40)
    x = 0.5 * y + draw.normal(size=40)
    cov = np.cov(x, y, bias=True)
    expected = 2 * cov[0, 1] / (cov[0, 0] + cov[1, 1] + (x.mean() - y.mean()) ** 2)
    assert metrics.concordance_correlation(x, y) == pytest.approx(expected, abs=1e-14)
    assert metrics.concordance_correlation(y, y) == 1 and metrics.concordance_correlation(-y + 2 * y.mean(), y) < -0.99


def test_lin_s_concordance_of_constants():
    y = np.array([1.0, 2.0, 3.0])
    assert metrics.concordance_correlation(np.full(3, 0.1), y) == 0
    assert metrics.concordance_correlation(np.full(3, 0.1), np.full(3, 0.2)) == 0
    assert np.isnan(metrics.concordance_correlation(np.full(3, 0.1), np.full(3, 0.1)))  # three tenths sum inexactly


@pytest.mark.parametrize("seed", range(5))
def test_harrell_s_c_is_its_sum_over_pairs(seed):
    draw = np.random.default_rng(seed)
    t, event = draw.integers(0, 9, 30), draw.random(30) < 0.6
    risk = np.round(-t / 4 + draw.normal(size=30), 1 if seed % 2 else 0)
    pairs = [(i, j) for i in range(30) for j in range(30) if t[i] < t[j] and event[i]]
    expected = sum((risk[i] > risk[j]) + (risk[i] == risk[j]) / 2 for i, j in pairs) / len(pairs)
    assert metrics.concordance_index(t, event, risk) == pytest.approx(expected, abs=1e-14)


def test_harrell_s_c_without_comparable_pairs_is_undefined():
    assert np.isnan(metrics.concordance_index(np.array([1, 2]), np.array([0, 1]), np.array([0.5, 0.1])))
    assert metrics.concordance_index(np.array([1, 2]), np.array([1, 0]), np.array([0.5, 0.5])) == 0.5
