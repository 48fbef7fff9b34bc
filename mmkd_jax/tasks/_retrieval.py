"""Retrieval of documents by queries, from the embeddings of both."""

import functools
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from mmkd_jax import losses, metrics
from mmkd_jax.core.objective import Objective, term
from mmkd_jax.core.task import Task
from mmkd_jax.errors import UserError, choices
from mmkd_jax.numeric import at_least_float32, unit
from mmkd_jax.tasks import _labels
from mmkd_jax.typing import Count
from mmkd_jax.validation import validated

_SCORES = 2**22
"""Scores that are computed at once; a constant, so that no metric depends on the batch size."""
_SAME = 1e-3
"""Largest difference of two embeddings of one query or document, as a share of its largest value."""


@validated
def retrieval(
    query: str = "query",
    document: str = "document",
    query_id: str | None = None,
    document_id: str | None = None,
    similarity: Literal["cosine", "dot"] = "cosine",
    k: Count = 10,
    recall: tuple[int, ...] = (1, 10, 100),
) -> Task:
    """Retrieval: each query ranks all documents of the split, measured by nDCG@k, MRR@k and recall, in both directions.

    A row is a query with a document that answers it. All documents of the split are the collection of each query, and
    all queries that of each document. Scores of all pairs are computed on the host in float64, as in
    `metrics.similarities`, and ties count with their expected value: neither the batch size nor the number of devices
    has an influence beyond the rounding of the model itself, and a model whose embeddings are all the same gets chance.
    The time grows with queries × documents.

    The headline is nDCG@k of the documents for each query, which counts several relevant documents, and all of them;
    MRR counts the first alone. Metrics of the other direction are named "METRIC DOCUMENT → QUERY".

    Args:
        query: name of the model's output with the query embeddings, [b, d].
        document: name of the model's output with the document embeddings, [b, d].
        query_id: name of a column with numbers of the queries: rows with equal numbers have the same query, and each of
            their documents answers it. −1 for a row that has only a document. None: every row has another query.
        document_id: the same for documents. Without it, a document that occurs twice is two documents, of which each
            query has one.
        similarity: "cosine", or "dot" for the inner product of the outputs.
        k: ranks that count for nDCG and MRR.
        recall: ranks that count for recall, one metric each.

    Returns:
        The task. `predict` gives the similarity of query and document of each row, [b]. The objective is
        `losses.in_batch_nll` in both directions, with temperature 0.05 for cosines and 1 for inner products.

    Raises:
        UserError: `k` or `recall` has a number below 1, or `similarity` is neither.

    Example:
        >>> task = retrieval(k=2, recall=(1,))
        >>> x = np.eye(3, dtype=np.float32)
        >>> found = task.whole({"query": x, "document": x[[0, 2, 1]]})
        >>> {name: round(float(value), 3) for name, value in list(found.items())[:3]}
        {'nDCG@2': 0.544, 'MRR@2': 0.5, 'recall@1': 0.333}
    """
    if wrong := [n for n in recall if isinstance(n, bool) or n < 1]:
        raise UserError(f"retrieval: recall={recall!r} has {wrong[0]!r}; expected numbers of ranks, at least 1")
    ids = {"query": query_id, "document": document_id}
    back = f" {document} → {query}"

    def objective(model: str = "student", **options) -> Objective:
        columns: dict[str, Any] = {f"{side}_id": f"batch.{name}" for side, name in ids.items() if name is not None}
        usual: dict[str, Any] = {
            "similarity": similarity,
            "symmetric": True,
            "temperature": 0.05 if similarity == "cosine" else 1.0,
        }
        paths = {"query": f"{model}.{query}", "document": f"{model}.{document}"}
        return term(losses.in_batch_nll, **paths, **columns | usual | options)

    def predict(outputs):
        x, y = at_least_float32(outputs[query], outputs[document])
        if similarity == "cosine":
            x, y = unit(x), unit(y)
        return jnp.sum(x * y, -1)

    def check_shapes(outputs, batch):
        del batch
        shapes = {name: outputs[name].shape for name in (query, document)}
        if any(len(shape) != 2 for shape in shapes.values()) or shapes[query] != shapes[document]:
            found = " and ".join(f"{name!r} {list(shape)}" for name, shape in shapes.items())
            raise UserError(
                f"retrieval compares outputs of equal shape [b, d]; found {found}: project both to one width"
            )
        return {}

    def check(columns):
        valid = np.asarray(columns.get("valid", True))
        lacking = np.ones(len(next(iter(columns.values()))), bool)
        for side, name in ids.items():
            if name is None:
                lacking[:] = False
                continue
            if name not in columns:
                raise UserError(f"retrieval needs a column {name!r}, {side}_id; there are: {choices(columns)}")
            values = _labels.column(columns, name, "retrieval")
            needs = "retrieval needs one integer a row, such as np.unique(x, return_inverse=True)[1]"
            _labels.check_kind(columns, name, np.integer, needs, side + "_id {!r} is")
            if len(wrong := np.flatnonzero((values < -1) & valid)):
                raise UserError(
                    f"{side}_id {values[wrong[0]]} in row {wrong[0]} is negative ({len(wrong)} such rows): expected "
                    f"numbers from 0, or −1 for a row without a {side}"
                )
            lacking &= values < 0
        if len(wrong := np.flatnonzero(lacking & valid)):
            raise UserError(f"row {wrong[0]} has neither a query nor a document ({len(wrong)} such rows): remove it")

    def check_all(columns):
        counts, pairs = {}, True
        for side, name in ids.items():
            values = np.arange(len(next(iter(columns.values())))) if name is None else np.asarray(columns[name])
            counts[side] = len(np.unique(values[values >= 0]))
            pairs = pairs & (values >= 0)
        if not np.any(pairs):
            raise UserError("retrieval: no row has both a query and a document, so that no query has a relevant one")
        for side, count in counts.items():
            metric = next((f"recall@{n}" for n in recall if n > count), f"nDCG@{k}" if k > count else "")
            if metric:
                other = "documents" if side == "document" else "queries"
                raise UserError(
                    f"retrieval: {metric} needs as many {other}, and there are {count}: lower it, with k= or "
                    "recall=, or evaluate on more rows"
                )

    def whole(rows):
        x, y = (np.asarray(rows[name], np.float64) for name in (query, document))
        own = {
            side: np.arange(len(x)) if name is None else np.asarray(rows[f"batch.{name}"]) for side, name in ids.items()
        }
        queries, of_query = _distinct(x, own["query"], "query")
        documents, of_document = _distinct(y, own["document"], "document")
        both = (of_query >= 0) & (of_document >= 0)
        pairs = np.stack([of_query[both], of_document[both]])
        one = _measured(queries, documents, pairs, similarity, k, recall)
        other = _measured(documents, queries, pairs[::-1], similarity, k, recall)
        found = {name: mean.value for name, mean in one.items()} | {n + back: mean.value for n, mean in other.items()}
        left_out = {"queries left out": one, "documents left out": other}
        return found | {name: float(means[f"nDCG@{k}"].left_out) for name, means in left_out.items()}

    rows = (query, document, *(f"batch.{name}" for name in ids.values() if name is not None))
    return Task(
        "retrieval", f"nDCG@{k}", objective, predict, check_shapes, check, check_all=check_all, rows=rows, whole=whole
    )


def _distinct(embeddings, ids, side):
    """Return the embedding of each distinct query or document, and the index of each row's; −1 for rows without one."""
    here = np.flatnonzero(ids >= 0)
    _, first, which = np.unique(ids[here], return_index=True, return_inverse=True)
    found = embeddings[here[first]]
    gap = np.abs(embeddings[here] - found[which]).max(1, initial=0)
    if len(wrong := np.flatnonzero(gap > _SAME * np.abs(embeddings[here]).max(1, initial=0))):
        row, other = here[wrong[0]], here[first[which[wrong[0]]]]
        raise UserError(
            f"rows {other} and {row}, in the order of example_id, have {side}_id {ids[row]} and different embeddings "
            f"({len(wrong)} such rows): give each {side} a number, or find out why the model tells them apart"
        )
    index = np.full(len(ids), -1)
    index[here] = which
    return found, index


def _measured(queries, documents, pairs, similarity, k, recall):
    """Return name -> `Mean` over the queries."""
    functions = {f"nDCG@{k}": functools.partial(metrics.ndcg, k=k)}
    functions |= {f"MRR@{k}": functools.partial(metrics.reciprocal_rank, k=k)}
    functions |= {f"recall@{n}": functools.partial(metrics.recall_at, k=n) for n in recall}
    values: dict[str, list[np.ndarray]] = {name: [] for name in functions}
    each = max(1, _SCORES // max(1, len(documents)))
    for start in range(0, len(queries), each):
        some = queries[start : start + each]
        relevant = np.zeros((len(some), len(documents)))
        inside = (pairs[0] >= start) & (pairs[0] < start + len(some))
        relevant[pairs[0][inside] - start, pairs[1][inside]] = 1
        scores = metrics.similarities(some, documents, similarity=similarity)
        for name, function in functions.items():
            values[name].append(function(scores, relevant).values)
    return {name: metrics.mean_over(np.concatenate([*x, np.zeros(0)])) for name, x in values.items()}
