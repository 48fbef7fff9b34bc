"""Retrieval: how high the relevant documents of each query are ranked.

Tied documents count with their expected value over all orders of the tied ones, which is exact: a constant scorer gets
what a random order gets on average. trec_eval orders them by name, scikit-learn averages gains, `torch.topk` takes any.

Source: McSherry and Najork, Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied
    Scores, 2008, https://doi.org/10.1007/978-3-540-78646-7_38
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64, Integer, Num

from mmkd_jax.errors import UserError
from mmkd_jax.metrics._inputs import check_relevance, check_scores
from mmkd_jax.metrics.mean import Mean, mean_over
from mmkd_jax.typing import Count
from mmkd_jax.validation import validated

Scores = Float[np.ndarray, " n"] | Float[np.ndarray, "q d"]
Relevance = Num[np.ndarray, " n"] | Bool[np.ndarray, " n"] | Num[np.ndarray, "q d"] | Bool[np.ndarray, "q d"]
Queries = Integer[np.ndarray, " n"] | None


class _Tied(NamedTuple):
    """The documents of one query that tie at the score of a relevant one."""

    above: int  # documents ranked above them
    size: int
    relevant: int
    relevant_above: int
    gain: float


def _tied(scores, relevant, gains) -> list[_Tied]:
    """Group the documents that tie with a relevant one, from the largest score down; the others change no metric."""
    ranked = np.sort(scores)
    distinct, which = np.unique(scores[relevant], return_inverse=True)
    low, high = np.searchsorted(ranked, distinct, "left"), np.searchsorted(ranked, distinct, "right")
    counts = np.bincount(which, minlength=len(distinct))
    of_group = np.split(gains[relevant][np.argsort(which, kind="stable")], np.cumsum(counts)[:-1])
    found, before = [], 0
    for g in range(len(distinct) - 1, -1, -1):
        if distinct[g] > -np.inf:
            size, count = int(high[g] - low[g]), int(counts[g])
            found.append(_Tied(len(scores) - int(high[g]), size, count, before, math.fsum(of_group[g])))
            before += count
    return found


def _mean(
    value: Callable[[list[_Tied], Float[np.ndarray, " m"], int], float],
    scores: Float[np.ndarray, "..."],
    relevance: Num[np.ndarray, "..."] | Bool[np.ndarray, "..."],
    queries: Queries,
    k: int | None,
    exponential: bool = False,
) -> Mean:
    """Mean over queries of `value(tied groups, gains of the documents, k)`; NaN where nothing is relevant."""
    if np.shape(scores) != np.shape(relevance):
        raise UserError(f"relevance is {list(relevance.shape)}, but scores are {list(scores.shape)}; expected one each")
    if (queries is None) != (scores.ndim == 2):
        raise UserError(
            f"scores are {list(scores.shape)} {'without' if queries is None else 'with'} queries; expected [n] with "
            "the query of each row, or [queries, documents] without"
        )
    scores, relevance = check_scores(scores), check_relevance(relevance)
    if queries is None:
        lists = zip(scores, relevance, strict=True)
        most = scores.shape[1] if len(scores) else 0
    else:
        order, sizes = np.argsort(queries, kind="stable"), np.unique(queries, return_counts=True)[1]
        lists = ((scores[rows], relevance[rows]) for rows in np.split(order, np.cumsum(sizes)[:-1]) if len(rows))
        most = int(np.max(sizes, initial=0))
    if k is not None and len(scores) and k > most:
        raise UserError(f"k is {k}, but the largest collection of a query has {most} documents; lower k")
    values = []
    for s, r in lists:
        gains = np.exp2(r) - 1 if exponential else r
        values.append(value(_tied(s, r > 0, gains), gains, k or most) if np.any(r > 0) else math.nan)
    return mean_over(np.array(values, np.float64))


def _ranks(group: _Tied, k: int) -> Int64[np.ndarray, " t"]:
    """Ranks from 1 that the tied documents share, up to k."""
    return np.arange(group.above + 1, min(group.above + group.size, k) + 1)


@validated
def ndcg(
    scores: Scores, relevance: Relevance, queries: Queries = None, *, k: Count | None = None, exponential: bool = False
) -> Mean:
    """Normalized discounted cumulative gain at k, nDCG@k.

    Formula: DCG@k/ideal DCG@k; DCG@k = Σ_{rank ≤ k} gain/log₂(rank + 1), ideal over all judged documents

    Args:
        scores: one per query and document: [n] with `queries`, or [q, d]. −inf: not retrieved.
        relevance: as the scores: the gain, 0 for not relevant.
        queries: the query of each row, [n]; None for scores [q, d].
        k: ranks that count; None for all.
        exponential: use the gain 2^relevance − 1.

    Returns:
        `Mean` over the queries with a relevant document, `values` in the order of their numbers. Tied documents count
        with their expected value; a query that retrieves nothing has 0.

    Raises:
        UserError: shapes differ, a score is NaN, relevance is negative, or k is larger than the collection.

    Source: Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, 2002,
        https://doi.org/10.1145/582415.582418; exponential: Burges et al., Learning to Rank using Gradient Descent, 2005

    Example:
        >>> found = ndcg(np.array([[0.9, 0.8, 0.1], [0.3, 0.2, 0.1]]), np.array([[0, 2, 1], [0, 0, 0]]), k=2)
        >>> round(found.value, 4), found.left_out
        (0.4796, 1)
    """

    def value(tied, gains, k):
        found = math.fsum(g.gain / g.size * math.fsum(1 / np.log2(_ranks(g, k) + 1)) for g in tied)
        best = np.sort(gains)[::-1][:k]
        return found / math.fsum(best / np.log2(np.arange(2, len(best) + 2)))

    return _mean(value, scores, relevance, queries, k, exponential)


@validated
def recall_at(scores: Scores, relevance: Relevance, queries: Queries = None, *, k: Count) -> Mean:
    """Recall@k: share of a query's relevant documents among its first k.

    Formula: Σ_{rank ≤ k} 1[relevant]/#relevant

    Args:
        scores: one per query and document: [n] with `queries`, or [q, d]. −inf: not retrieved.
        relevance: as the scores: above 0 for relevant.
        queries: the query of each row, [n]; None for scores [q, d].
        k: ranks that count.

    Returns:
        `Mean` over the queries with a relevant document. Tied documents count with their expected value; a query that
        retrieves nothing has 0.

    Raises:
        UserError: shapes differ, a score is NaN, relevance is negative, or k is larger than the collection.

    Example:
        >>> recall_at(np.array([[0.9, 0.8, 0.1]]), np.array([[0, 1, 1]]), k=2).value
        0.5
    """

    def value(tied, gains, k):
        found = math.fsum(g.relevant * len(_ranks(g, k)) / g.size for g in tied)
        return found / int(np.count_nonzero(gains))

    return _mean(value, scores, relevance, queries, k)


@validated
def precision_at(scores: Scores, relevance: Relevance, queries: Queries = None, *, k: Count) -> Mean:
    """Precision@k: share of relevant documents among the first k.

    Formula: Σ_{rank ≤ k} 1[relevant]/k

    Args:
        scores: one per query and document: [n] with `queries`, or [q, d]. −inf: not retrieved.
        relevance: as the scores: above 0 for relevant.
        queries: the query of each row, [n]; None for scores [q, d].
        k: ranks that count; a query that retrieves fewer is divided by k as well.

    Returns:
        `Mean` over the queries with a relevant document. Tied documents count with their expected value; a query that
        retrieves nothing has 0.

    Raises:
        UserError: shapes differ, a score is NaN, relevance is negative, or k is larger than the collection.

    Example:
        >>> precision_at(np.array([[0.9, 0.8, 0.8]]), np.array([[1, 0, 1]]), k=2).value
        0.75
    """

    def value(tied, gains, k):
        return math.fsum(g.relevant * len(_ranks(g, k)) / g.size for g in tied) / k

    return _mean(value, scores, relevance, queries, k)


@validated
def hit_rate(scores: Scores, relevance: Relevance, queries: Queries = None, *, k: Count) -> Mean:
    """Hit rate@k: share of the queries with a relevant document among the first k.

    Formula: mean_q 1[a relevant document has a rank ≤ k]

    Args:
        scores: one per query and document: [n] with `queries`, or [q, d]. −inf: not retrieved.
        relevance: as the scores: above 0 for relevant.
        queries: the query of each row, [n]; None for scores [q, d].
        k: ranks that count.

    Returns:
        `Mean` over the queries with a relevant document. Where tied documents decide, the probability of a hit; a query
        that retrieves nothing has 0.

    Raises:
        UserError: shapes differ, a score is NaN, relevance is negative, or k is larger than the collection.

    Example:
        >>> hit_rate(np.array([[0.9, 0.8], [0.1, 0.1]]), np.array([[0, 1], [1, 0]]), k=1).value
        0.25
    """

    def value(tied, gains, k):
        return math.fsum(_first_at(tied[0])[: len(_ranks(tied[0], k))]) if tied else 0.0

    return _mean(value, scores, relevance, queries, k)


def _first_at(group: _Tied) -> Float[np.ndarray, " m"]:
    """Probability that the first relevant one of the tied documents is their first, their second and so on."""
    j = np.arange(1, group.size - group.relevant + 1)  # C(m − j, r − 1)/C(m, r), as a product
    share = np.cumprod((group.size - j - group.relevant + 1) / (group.size - j)) if len(j) else np.zeros(0)
    return group.relevant / group.size * np.concatenate([[1.0], share])


@validated
def reciprocal_rank(scores: Scores, relevance: Relevance, queries: Queries = None, *, k: Count | None = None) -> Mean:
    """Mean reciprocal rank (MRR) at k, of the first relevant document.

    Formula: mean_q 1/rank of the first relevant document if that is at most k, else 0

    Args:
        scores: one per query and document: [n] with `queries`, or [q, d]. −inf: not retrieved.
        relevance: as the scores: above 0 for relevant.
        queries: the query of each row, [n]; None for scores [q, d].
        k: ranks that count; None for all.

    Returns:
        `Mean` over the queries with a relevant document. Tied documents count with their expected value; a query that
        retrieves nothing has 0.

    Raises:
        UserError: shapes differ, a score is NaN, relevance is negative, or k is larger than the collection.

    Source: Voorhees, The TREC-8 Question Answering Track Report, 1999

    Example:
        >>> reciprocal_rank(np.array([[0.9, 0.8, 0.1]]), np.array([[0, 1, 1]])).value
        0.5
    """

    def value(tied, gains, k):
        if not tied:
            return 0.0
        ranks, chance = _ranks(tied[0], k), _first_at(tied[0])
        counted = min(len(ranks), len(chance))
        return math.fsum(chance[:counted] / ranks[:counted])

    return _mean(value, scores, relevance, queries, k)


@validated
def retrieval_map(scores: Scores, relevance: Relevance, queries: Queries = None, *, k: Count | None = None) -> Mean:
    """Mean average precision (MAP) of queries, at k.

    Formula: mean_q Σ_{rank ≤ k} 1[relevant] precision@rank/#relevant

    Args:
        scores: one per query and document: [n] with `queries`, or [q, d]. −inf: not retrieved.
        relevance: as the scores: above 0 for relevant.
        queries: the query of each row, [n]; None for scores [q, d].
        k: ranks that count; None for all.

    Returns:
        `Mean` over the queries with a relevant document. Tied documents count with their expected value, unlike in
        `average_precision`, where they share one threshold; a query that retrieves nothing has 0.

    Raises:
        UserError: shapes differ, a score is NaN, relevance is negative, or k is larger than the collection.

    Source: Buckley and Voorhees, Evaluating Evaluation Measure Stability, 2000, https://doi.org/10.1145/345508.345543

    Example:
        >>> round(retrieval_map(np.array([[0.9, 0.8, 0.1]]), np.array([[0, 1, 1]])).value, 4)
        0.5833
    """

    def value(tied, gains, k):
        terms = []
        for g in tied:
            ranks = _ranks(g, k)
            others = (ranks - g.above - 1) * (g.relevant - 1) / max(g.size - 1, 1)  # relevant tied ones ranked above
            terms.extend(g.relevant / g.size * (g.relevant_above + 1 + others) / ranks)
        return math.fsum(terms) / int(np.count_nonzero(gains))

    return _mean(value, scores, relevance, queries, k)
