"""Masks of query–key pairs, and masked means."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.errors import UserError
from mmkd_jax.numeric import divergence, log_softmax


def token_pairs(tokens: Bool[Array, "b l"]) -> Bool[Array, "b l l"]:
    """Expand a token mask to a mask of token pairs."""
    return tokens[:, :, None] & tokens[:, None, :]


def pair_mask(
    loss: str, scores: Float[Array, "b n q k"], mask: Bool[Array, "b k"] | Bool[Array, "b q k"] | None
) -> Bool[Array, "b q k"]:
    """Return the mask as a mask of query–key pairs; None is all pairs.

    Raises:
        UserError: `mask` is a token mask, but queries and keys are different tokens.
    """
    b, _, q, k = scores.shape
    if mask is None:
        return jnp.ones((b, q, k), bool)
    if mask.ndim == 2 and q != k:
        raise UserError(f"{loss}: mask is bool{list(mask.shape)}, but there are {q} queries; expected bool [b q k]")
    return token_pairs(mask) if mask.ndim == 2 else mask


def masked_mean(values: Float[Array, "b n ..."], where: Bool[Array, "b ..."]) -> Float[Array, " b"]:
    """Masked mean over the heads and positions of each example; 0 if its mask is empty."""
    b, heads = values.shape[:2]
    total = jnp.sum(jnp.where(where[:, None], values, 0).reshape(b, -1), 1)
    count = jnp.sum(where.reshape(b, -1), 1).astype(values.dtype)
    return total / (heads * jnp.maximum(count, 1))


def mean_divergence(
    student: Float[Array, "b n q k"], teacher: Float[Array, "b n q k"], pairs: Bool[Array, "b q k"]
) -> Float[Array, " b"]:
    """KL from the teacher's attention to the student's, averaged over heads and queries with a valid key."""
    keys, queries = pairs[:, None], jnp.any(pairs, -1)
    fill = jnp.where(queries[:, None, :, None], -jnp.inf, 0)  # no NaN for queries without valid keys
    logp, logq = (log_softmax(jnp.where(keys, x, fill)) for x in (teacher, student))
    return masked_mean(divergence(logp, logq), queries)
