"""Softmax distributions over a row's similarities to the batch, shared by the contrastive losses."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mmkd_jax.collectives import gather
from mmkd_jax.numeric import at_least_float32, inner, like, rows_that_count, unit, zero_rows
from mmkd_jax.typing import Positive

Pair = tuple[Float[Array, "b d"], Float[Array, "b d"]]


def normalized_rows(
    arrays: tuple[Array, ...], where: Bool[Array, " b"] | None
) -> tuple[Bool[Array, " b"], list[Array]]:
    """Return the row mask, and the arrays L2-normalized, in one dtype, with zeros in invalid rows."""
    mask = rows_that_count(arrays[0], where)
    return mask, [unit(zero_rows(x, mask)) for x in at_least_float32(*arrays)]


def candidates(mask: Bool[Array, " b"], axis_name: str | None) -> tuple[Bool[Array, "b n"], Int[Array, " b"]]:
    """Return the mask of each row's candidates among the rows of all devices, and the index of its positive."""
    all_valid, first = gather(mask, axis_name)
    positive = first + jnp.arange(len(mask))
    # an invalid row keeps its own positive, so that its softmax is not over an empty set
    return all_valid[None, :] | (positive[:, None] == jnp.arange(len(all_valid))[None, :]), positive


def log_affinities(
    anchor: Float[Array, "b d"],
    others: Float[Array, "b d"],
    temperature: Positive,
    allowed: Bool[Array, "b n"],
    axis_name: str | None,
) -> Float[Array, "b n"]:
    """Log-softmax of ⟨anchor, others⟩ / τ over all devices' `others`; −inf for pairs that are not allowed."""
    others, _ = gather(others, axis_name)
    scores = inner(anchor, others) / like(temperature, anchor[0, 0])
    return jax.nn.log_softmax(jnp.where(allowed, scores, -jnp.inf), -1)  # never over an empty set: see `candidates`


def positive_nll(logp: Float[Array, "b n"], positive: Int[Array, " b"]) -> Float[Array, " b"]:
    """Negative log-likelihood of each row's positive."""
    return -jnp.take_along_axis(logp, positive[:, None], 1)[:, 0]
