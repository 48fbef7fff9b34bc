"""Sentiment intensities, against the published formulas and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from mmkd_jax import metrics


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_the_published_formulas(seed):
    draw = np.random.default_rng(seed)
    y = np.round(draw.uniform(-3, 3, 60) * 3) / 3
    y[:5] = 0
    x = y + draw.normal(size=60)
    found = metrics.sentiment_scores(x, y)
    assert found.acc7 == np.mean(np.round(np.clip(x, -3, 3)) == np.round(np.clip(y, -3, 3)))
    assert found.acc5 == np.mean(np.round(np.clip(x, -2, 2)) == np.round(np.clip(y, -2, 2)))
    signed = y != 0
    assert found.nonzero == signed.sum() < 60
    assert found.acc2_nonnegative == accuracy_score(y >= 0, x >= 0)
    assert found.acc2_positive == accuracy_score(y[signed] > 0, x[signed] > 0)
    assert found.f1_nonnegative == pytest.approx(f1_score(y >= 0, x >= 0, average="weighted"), abs=1e-14)
    expected = f1_score(y[signed] > 0, x[signed] > 0, average="weighted")
    assert found.f1_positive == pytest.approx(expected, abs=1e-14)


def test_halves_round_to_even_and_both_forms_differ_at_0():
    found = metrics.sentiment_scores(np.array([0.5, 1.5, 2.5, -0.1]), np.array([0.0, 2.0, 2.0, 0.0]))
    assert found.acc7 == 1.0 and found.acc2_nonnegative == 0.75 and found.acc2_positive == 1.0 and found.nonzero == 2
    found = metrics.sentiment_scores(np.array([0.5]), np.array([0.0]))
    assert np.isnan(found.acc2_positive) and np.isnan(found.f1_positive) and found.acc2_nonnegative == 1
