"""The best labeling of a chain: that of an enumeration over all labelings."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import crf
from tests.losses.formulas.structure import labelings

MASKS = [np.array(x, bool) for x in itertools.product([True, False], repeat=4)]
viterbi = jax.jit(crf.viterbi)


def expected(emissions, transitions, mask):
    """The first of the best labelings, in the order of the last label, then of the one before it."""
    found = np.full(len(mask), -1)
    if mask.any():
        paths, scores = labelings(emissions[mask], transitions)
        best = paths[scores == scores.max()]
        found[mask] = best[np.lexsort(best.T)[0]]  # sorted by the last column first
    return found


@pytest.mark.parametrize("kind", ["any", "ties", "forbidden"])
def test_the_best_labeling_is_that_of_an_enumeration_with_any_gaps_in_the_mask(kind):
    draw = np.random.default_rng(0)
    mask = np.stack(MASKS)
    emissions, transitions = draw.normal(size=(len(mask), 4, 3)), draw.normal(size=(3, 3))
    if kind == "ties":  # small integers: sums are exact, and many are equal
        emissions, transitions = np.round(emissions), np.round(transitions)
    if kind == "forbidden":
        emissions[:, 1, 0], transitions[2] = -np.inf, [-np.inf, 0, -np.inf]
    emissions, transitions = emissions.astype(np.float32), transitions.astype(np.float32)
    found = viterbi(jnp.asarray(emissions), jnp.asarray(transitions), jnp.asarray(mask))
    wide = [x.astype(np.float64) for x in (emissions, transitions)]
    np.testing.assert_array_equal(found, [expected(e, wide[1], m) for e, m in zip(wide[0], mask, strict=True)])


def test_a_text_without_tokens_has_no_labels_and_without_a_mask_all_tokens_have_one():
    emissions = jnp.zeros((2, 3, 4))
    assert viterbi(emissions, jnp.zeros((4, 4)), jnp.zeros((2, 3), bool)).tolist() == [[-1] * 3] * 2
    assert viterbi(emissions, jnp.zeros((4, 4)), None).tolist() == [[0] * 3] * 2
    assert viterbi(emissions[:, :0], jnp.zeros((4, 4)), None).shape == (2, 0)


def test_if_all_labelings_are_forbidden_the_result_is_that_with_the_fewest_forbidden_scores():
    never = jnp.full((2, 2), -jnp.inf)
    emissions = jnp.array([[[0.0, -jnp.inf], [-jnp.inf, 0.0], [0.0, -jnp.inf]]])
    assert viterbi(emissions, never, None).tolist() == [[0, 1, 0]]


def test_half_precision_is_decoded_in_float32(strict):
    draw = np.random.default_rng(1)
    emissions, transitions = (jnp.asarray(draw.normal(size=s), jnp.bfloat16) for s in ((5, 6, 3), (3, 3)))
    wide = viterbi(emissions.astype(jnp.float32), transitions.astype(jnp.float32), None)
    np.testing.assert_array_equal(viterbi(emissions, transitions, None), wide)
    assert wide.dtype == jnp.int32


def test_the_best_labeling_has_at_least_the_score_of_any_other():
    draw = np.random.default_rng(2)
    emissions, transitions = (jnp.asarray(draw.normal(size=s), jnp.float32) for s in ((4, 30, 5), (5, 5)))
    mask = jnp.asarray(draw.random((4, 30)) < 0.7)
    best = crf.score(emissions, transitions, viterbi(emissions, transitions, mask), mask)
    for _ in range(20):
        other = jnp.asarray(draw.integers(0, 5, (4, 30)))
        assert bool((crf.score(emissions, transitions, other, mask) <= best + 1e-4).all())
