"""The pairs of a query and a key that count, and means over them."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.checked import BadInput
from mmkd_jax.losses.numeric import divergence, log_softmax


def pairs_of(tokens: Bool[Array, "b l"]) -> Bool[Array, "b l l"]:
    """Every token that counts with every other."""
    return tokens[:, :, None] & tokens[:, None, :]


def pairs_that_count(
    loss: str, scores: Float[Array, "b n q k"], mask: Bool[Array, "b k"] | Bool[Array, "b q k"] | None
) -> Bool[Array, "b q k"]:
    """The mask as one of pairs; all pairs where there is none.

    Raises:
        BadInput: a mask of tokens, where queries and keys are different tokens.
    """
    b, _, q, k = scores.shape
    if mask is None:
        return jnp.ones((b, q, k), bool)
    if mask.ndim == 2 and q != k:
        raise BadInput(f"{loss}: mask is bool{list(mask.shape)}, but there are {q} queries; expected bool [b q k]")
    return pairs_of(mask) if mask.ndim == 2 else mask


def mean_that_counts(values: Float[Array, "b n ..."], where: Bool[Array, "b ..."]) -> Float[Array, " b"]:
    """Over the heads and what counts of each example; 0 where nothing does."""
    b, heads = values.shape[:2]
    total = jnp.sum(jnp.where(where[:, None], values, 0).reshape(b, -1), 1)
    count = jnp.sum(where.reshape(b, -1), 1).astype(values.dtype)
    return total / (heads * jnp.maximum(count, 1))


def mean_divergence(
    student: Float[Array, "b n q k"], teacher: Float[Array, "b n q k"], pairs: Bool[Array, "b q k"]
) -> Float[Array, " b"]:
    """KL from the teacher's softmax over the keys to the student's, over heads and queries that have a key."""
    keys, queries = pairs[:, None], jnp.any(pairs, -1)
    elsewhere = jnp.where(queries[:, None, :, None], -jnp.inf, 0)  # a query without a key is no NaN
    logp, logq = (log_softmax(jnp.where(keys, x, elsewhere)) for x in (teacher, student))
    return mean_that_counts(divergence(logp, logq), queries)
