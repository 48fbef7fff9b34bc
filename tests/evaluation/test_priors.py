"""The best shift of a bias, against trying every one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.evaluation.priors import apply_prior_shift, prior_shift


def wrong(logits, labels, classes, shift):
    return int(np.sum(np.argmax(np.asarray(apply_prior_shift(logits, classes, float(shift))), -1) != labels))


@pytest.mark.parametrize("seed", range(8))
def test_no_other_shift_is_better(seed):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 5, 200)
    logits = draw.normal(size=(200, 5)) + 1.5 * np.eye(5)[labels]
    classes = np.isin(np.arange(5), draw.choice(5, draw.integers(1, 5), replace=False))
    logits = np.round(4 ** (seed % 3) * (logits - draw.normal(scale=3) * classes)) / 4 ** (seed % 3)  # with ties
    logits, classes = jnp.asarray(logits, jnp.float32), jnp.asarray(classes)
    found = float(prior_shift(logits, jnp.asarray(labels), classes))
    turns = np.max(np.where(classes, -np.inf, logits), -1) - np.max(np.where(classes, logits, -np.inf), -1)
    turns = np.unique(turns)
    every = [turns[0] - 1, *(turns[1:] + turns[:-1]) / 2, turns[-1] + 1]
    assert wrong(logits, labels, classes, found) == min(wrong(logits, labels, classes, s) for s in every)


def test_it_mends_a_class_that_was_never_seen():
    labels = jnp.arange(300) % 3
    logits = 4 * jax.nn.one_hot(labels, 3) + jax.random.normal(jax.random.key(0), (300, 3))
    lacking = jnp.array([False, False, True])
    spoilt = apply_prior_shift(logits, lacking, -7.0)
    assert prior_shift(spoilt, labels, lacking).item() == pytest.approx(7, abs=1.5)
    assert prior_shift(logits, labels, lacking).item() == pytest.approx(0, abs=1.5)
