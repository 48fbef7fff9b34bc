"""Retrieval, against ir_measures without ties, and with ties against every order of the tied documents."""

import itertools
import math
from collections.abc import Callable

import ir_measures
import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from mmkd_jax import metrics

# each metric of one query from relevance in ranked order, retrieved documents first, by its definition
BY_ORDER: dict[str, Callable[[list[float], int, int], float]] = {
    "ndcg": lambda r, n, k: (
        sum(g / math.log2(i + 2) for i, g in enumerate(r[: min(n, k)]))
        / sum(g / math.log2(i + 2) for i, g in enumerate(sorted(r, reverse=True)[:k]))
    ),
    "recall_at": lambda r, n, k: sum(g > 0 for g in r[: min(n, k)]) / sum(g > 0 for g in r),
    "precision_at": lambda r, n, k: sum(g > 0 for g in r[: min(n, k)]) / k,
    "hit_rate": lambda r, n, k: float(any(g > 0 for g in r[: min(n, k)])),
    "reciprocal_rank": lambda r, n, k: max([(g > 0) / (i + 1) for i, g in enumerate(r[: min(n, k)])], default=0),
    "retrieval_map": lambda r, n, k: (
        sum(sum(h > 0 for h in r[: i + 1]) / (i + 1) for i, g in enumerate(r[: min(n, k)]) if g > 0)
        / sum(g > 0 for g in r)
    ),
}
IR = {
    "ndcg": ir_measures.nDCG,
    "recall_at": ir_measures.R,
    "precision_at": ir_measures.P,
    "hit_rate": ir_measures.Success,
    "reciprocal_rank": ir_measures.RR,
    "retrieval_map": ir_measures.AP,
}


def by_enumeration(name: str, scores, relevance, k: int) -> float:
    """Mean over all orders that agree with the scores."""
    retrieved = [i for i in range(len(scores)) if scores[i] > -np.inf]
    rest = [i for i in range(len(scores)) if scores[i] == -np.inf]
    values = []
    for order in itertools.permutations(retrieved):
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order)):
            ranked = [float(relevance[i]) for i in (*order, *rest)]
            values.append(BY_ORDER[name](ranked, len(order), k))
    return float(np.mean(values))


@pytest.mark.parametrize("name", BY_ORDER)
def test_with_ties_the_value_is_the_mean_over_every_order(name):
    draw = np.random.default_rng(0)
    for _ in range(12):
        scores = draw.integers(0, draw.integers(1, 4), 5).astype(float)
        scores[draw.random(5) < 0.2] = -np.inf
        relevance = draw.integers(0, 3, 5)
        relevance[0] = max(relevance[0], 1)
        for k in (1, 2, 4, 5):
            found = getattr(metrics, name)(scores[None], relevance[None], k=k)
            assert found.value == pytest.approx(by_enumeration(name, scores, relevance, k), abs=1e-13)


@pytest.mark.parametrize("name", IR)
@pytest.mark.parametrize("k", [1, 3, 10])
def test_without_ties_the_values_by_query_are_those_of_ir_measures(name, k):
    draw = np.random.default_rng(k)
    queries = np.sort(draw.integers(0, 6, 70))
    relevance = draw.integers(0, 3, 70) * (draw.random(70) < 0.5)
    relevance[np.unique(queries, return_index=True)[1]] = 2
    scores = draw.permutation(70) / 7.0
    scores[draw.random(70) < 0.1] = -np.inf
    rows = [(str(q), f"d{i}") for i, q in enumerate(queries)]
    judged = [ir_measures.Qrel(q, d, int(r)) for (q, d), r in zip(rows, relevance, strict=True)]
    run = [ir_measures.ScoredDoc(q, d, s) for (q, d), s in zip(rows, scores, strict=True) if s > -np.inf]
    by_query = {m.query_id: m.value for m in ir_measures.iter_calc([IR[name] @ k], judged, run)}
    found = getattr(metrics, name)(scores, relevance, queries, k=k)
    expected = [by_query.get(str(q), 0.0) for q in np.unique(queries)]
    assert found.values == pytest.approx(expected, abs=1e-6)  # trec_eval has single precision
    assert found.left_out == 0
    order = draw.permutation(70)
    assert getattr(metrics, name)(scores[order], relevance[order], queries[order], k=k).value == found.value


def test_trec_eval_orders_ties_by_name():
    """A tie counts as first or as last by the names of the documents there, and as their mean here."""

    def reference(names):
        judged = [ir_measures.Qrel("q", names[0], 1), ir_measures.Qrel("q", names[1], 0)]
        run = [ir_measures.ScoredDoc("q", d, 1.0) for d in names]
        return ir_measures.calc_aggregate([ir_measures.RR @ 2], judged, run)[ir_measures.RR @ 2]

    assert {reference(("a", "b")), reference(("b", "a"))} == {0.5, 1.0}
    assert metrics.reciprocal_rank(np.ones((1, 2)), np.array([[1, 0]])).value == 0.75


@pytest.mark.parametrize("exponential", [False, True])
def test_ndcg_is_scikit_learn_s_within_the_list(exponential):
    draw = np.random.default_rng(5)
    relevance, scores = draw.integers(0, 4, (5, 8)), np.round(draw.normal(size=(5, 8)))
    relevance[:, 0] = 1
    gains = 2**relevance - 1 if exponential else relevance
    for k in (3, 8, None):
        found = metrics.ndcg(scores, relevance, k=k, exponential=exponential).value
        assert found == pytest.approx(ndcg_score(gains, scores, k=k), abs=1e-14)  # it averages tied gains as well
    assert metrics.ndcg(np.zeros((1, 2)), np.zeros((1, 2))).left_out == 1
    assert ndcg_score(np.zeros((1, 2)), np.zeros((1, 2))) == 0  # a query without relevant documents


def test_a_constant_scorer_gets_chance():
    relevance = np.zeros((1, 20), bool)
    relevance[0, :2] = True
    scores = np.zeros((1, 20))
    assert metrics.recall_at(scores, relevance, k=5).value == pytest.approx(0.25)
    assert metrics.precision_at(scores, relevance, k=5).value == pytest.approx(0.1)
    assert metrics.hit_rate(scores, relevance, k=5).value == pytest.approx(1 - math.comb(18, 5) / math.comb(20, 5))


def test_a_query_without_relevant_documents_is_left_out_and_one_without_answers_has_0():
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [-np.inf, -np.inf]])
    relevance = np.array([[1, 0], [0, 0], [1, 0]])
    for name in BY_ORDER:
        found = getattr(metrics, name)(scores, relevance, k=1)
        assert (found.value, found.counted, found.left_out) == (0.5, 2, 1), name
        assert np.array_equal(found.values, [1, np.nan, 0], equal_nan=True)
