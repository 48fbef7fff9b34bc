"""Similarities of embeddings, on the host."""

from typing import Literal

import numpy as np
from jaxtyping import Float

from mmkd_jax.metrics._inputs import check_finite
from mmkd_jax.validation import validated

_SAME = 1e-5
"""Largest distance of equal embeddings, as a share of their length: rounding in single precision."""


@validated
def similarities(
    queries: Float[np.ndarray, "q d"],
    documents: Float[np.ndarray, "n d"],
    *,
    similarity: Literal["cosine", "dot"] = "cosine",
) -> Float[np.ndarray, "q n"]:
    """Similarity of every query with every document, in float64.

    Formula: cosine: ⟨q, d⟩/(‖q‖ ‖d‖), 0 for a zero vector; dot: ⟨q, d⟩

    Documents whose embeddings differ by less than 1e-5 of their length have equal scores, to the bit: a document that
    occurs twice is a tie, although models and products of matrices round it differently in different places.

    Args:
        queries: embeddings, [q, d].
        documents: embeddings, [n, d].
        similarity: "cosine", or "dot" for the inner product.

    Returns:
        Scores [q, n]. `np.argsort(-scores, kind="stable")` ranks the documents of each query.

    Raises:
        UserError: the widths differ, or a value is not finite.

    Example:
        >>> similarities(np.array([[1.0, 0.0]]), np.array([[2.0, 0.0], [0.0, 3.0], [2.0, 0.0]])).tolist()
        [[1.0, 0.0, 1.0]]
    """
    queries, documents = check_finite(queries, "queries"), check_finite(documents, "documents")
    if similarity == "cosine":
        queries, documents = _unit(queries), _unit(documents)
    distinct, which = _grouped(documents)
    return (queries @ distinct.T)[:, which]


def _unit(x):
    size = np.sqrt(np.sum(x * x, 1, keepdims=True))
    return x / np.where(size > 0, size, 1)


def _grouped(x):
    """Return one embedding for each group of nearly equal ones, and the group of each: neighbors along a direction."""
    order = np.argsort(x @ np.random.default_rng(0).normal(size=x.shape[1]), kind="stable")
    gap = np.sqrt(np.sum(np.square(x[order[1:]] - x[order[:-1]]), 1))
    new = np.concatenate([[True], gap > _SAME * np.sqrt(np.sum(np.square(x[order[1:]]), 1))])[: len(x)]
    which = np.empty(len(x), np.int64)
    which[order] = np.cumsum(new) - 1
    return x[order[new]], which
