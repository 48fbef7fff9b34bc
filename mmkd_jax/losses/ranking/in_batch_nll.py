"""In-batch negatives: cross-entropy of a query's own document among the documents of the batch."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from mmkd_jax.collectives import gather
from mmkd_jax.losses.contrastive._distributions import candidates, log_affinities, positive_nll
from mmkd_jax.losses.ranking._in_batch import Similarity, embeddings
from mmkd_jax.typing import Positive
from mmkd_jax.validation import validated


@validated
def in_batch_nll(
    query: Float[Array, "b d"],
    document: Float[Array, "b d"],
    *,
    query_id: Integer[Array, " b"] | None = None,
    document_id: Integer[Array, " b"] | None = None,
    similarity: Similarity = "cosine",
    temperature: Positive = 0.05,
    symmetric: bool = False,
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " b"]:
    """In-batch negatives: cross-entropy of picking a query's own document among those of the batch.

    Formula: −log softmax_j(sim(q_i, d_j) / τ)_i over the j that share neither query nor document with i, and i itself;
        symmetric: averaged with the same, q and d swapped

    Unlike in `info_nce` in a term, both sides get a gradient, and documents that occur twice in a batch are not
    negatives of themselves.

    Args:
        query: embeddings q, [b, d].
        document: embeddings d of the document that answers the query of this row, [b, d].
        query_id: rows with equal numbers have the same query; None means that no two have. A negative number, for a row
            without a query, makes the loss NaN: mask these rows.
        document_id: the same for documents.
        similarity: "cosine", or "dot" for the inner product.
        temperature: τ > 0; 0.05 suits cosines. Inner products have a scale themselves: start with 1.
        symmetric: average both directions.
        where: mask of valid rows, [b]; invalid rows are not negatives either.
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Per-example loss, [b].

    Compares: query and document embeddings of one model
    Extra: none; a learned τ is a path of an output, such as temperature="student.temperature"
    Source: Karpukhin et al., Dense Passage Retrieval for Open-Domain Question Answering, 2020,
        https://arxiv.org/abs/2004.04906
    Differs: the paper takes inner products and τ = 1, and does not look for repeated documents

    Example:
        >>> x = jnp.eye(2)
        >>> [f"{v:.4f}" for v in in_batch_nll(x, x, temperature=1.0)]
        ['0.3133', '0.3133']
        >>> jnp.abs(in_batch_nll(x, x, document_id=jnp.array([7, 7]))).tolist()
        [0.0, 0.0]
    """
    mask, (query, document) = embeddings((query, document), similarity, where)
    allowed, positive = candidates(mask, axis_name)
    for ids in (query_id, document_id):
        if ids is not None:
            others, _ = gather(ids, axis_name)
            own = positive[:, None] == jnp.arange(len(others))[None]
            allowed = allowed & (own | (ids[:, None] != others[None]))

    def one_way(anchor, others):
        return positive_nll(log_affinities(anchor, others, temperature, allowed, axis_name), positive)

    values = one_way(query, document)
    values = (values + one_way(document, query)) / 2 if symmetric else values
    for ids in (query_id, document_id):
        values = values if ids is None else jnp.where(mask & (ids < 0), jnp.nan, values)
    return values
