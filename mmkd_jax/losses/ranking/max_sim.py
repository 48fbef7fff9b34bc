"""Late interaction: a score of two texts from the similarities of their tokens."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.numeric import at_least_float32, inner
from mmkd_jax.validation import validated


@validated
def max_sim(
    query: Float[Array, "b l d"],
    document: Float[Array, "b m d"],
    *,
    query_mask: Bool[Array, "b l"] | None = None,
    document_mask: Bool[Array, "b m"] | None = None,
) -> Float[Array, " b"]:
    """Late interaction (MaxSim): each token of the query with its most similar token of the document.

    Formula: Σ_i max_j ⟨q_i, d_j⟩ over the valid tokens

    A score, not a loss: pass it on to `margin_mse` or `listwise_kl`. It grows with the number of query tokens, so that
    its scale is not that of an inner product of two embeddings.

    Args:
        query: token embeddings q, [b, l, d], usually of unit length.
        document: token embeddings d, [b, m, d].
        query_mask: valid tokens of the query, [b, l]; None means all.
        document_mask: valid tokens of the document, [b, m]; None means all.

    Returns:
        Scores [b]; 0 for a query or a document without valid tokens.

    Compares: token embeddings of a query and a document
    Extra: none
    Source: Khattab and Zaharia, ColBERT: Efficient and Effective Passage Search via Contextualized Late Interaction
        over BERT, 2020, https://arxiv.org/abs/2004.12832

    Example:
        >>> q, d = jnp.eye(2)[None], jnp.array([[[1.0, 0.0], [0.0, 3.0]]])
        >>> max_sim(q, d).tolist(), max_sim(q, d, document_mask=jnp.array([[True, False]])).tolist()
        ([4.0], [1.0])
    """
    query, document = at_least_float32(query, document)
    query_mask = jnp.ones(query.shape[:2], bool) if query_mask is None else query_mask
    document_mask = jnp.ones(document.shape[:2], bool) if document_mask is None else document_mask
    query, document = (jnp.where(m[..., None], x, 0) for x, m in ((query, query_mask), (document, document_mask)))
    scores = jnp.where(document_mask[:, None, :], inner(query, document), -jnp.inf)
    best = jnp.max(scores, -1, initial=-jnp.inf)
    counts = query_mask & jnp.any(document_mask, -1, keepdims=True)
    return jnp.sum(jnp.where(counts, best, 0), -1)
