"""A row's similarities to the rows of the batch, as a distribution: the home of all losses that compare such."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mmkd_jax.losses.gather import gather
from mmkd_jax.losses.number import Positive
from mmkd_jax.losses.numeric import at_least_float32, inner, like, rows_that_count, unit, zero_rows

Pair = tuple[Float[Array, "b d"], Float[Array, "b d"]]


def directions(arrays: tuple[Array, ...], where: Bool[Array, " b"] | None) -> tuple[Bool[Array, " b"], list[Array]]:
    """The mask, and the arrays in one dtype, of length 1, with zeros in the rows that do not count."""
    mask = rows_that_count(arrays[0], where)
    return mask, [unit(zero_rows(x, mask)) for x in at_least_float32(*arrays)]


def partners(mask: Bool[Array, " b"], axis: str | None) -> tuple[Bool[Array, "b n"], Int[Array, " b"]]:
    """Whom a row is compared with among the rows of all devices, and the place of its own partner."""
    everyone, first = gather(mask, axis)
    own = first + jnp.arange(len(mask))
    # a row that does not count keeps its own partner, so that its softmax is not over nothing
    return everyone[None, :] | (own[:, None] == jnp.arange(len(everyone))[None, :]), own


def log_affinities(
    anchor: Float[Array, "b d"],
    others: Float[Array, "b d"],
    temperature: Positive,
    allowed: Bool[Array, "b n"],
    axis: str | None,
) -> Float[Array, "b n"]:
    """Log-softmax over all devices' `others` of a row's products with them, by τ; −inf where none is allowed."""
    others, _ = gather(others, axis)
    scores = inner(anchor, others) / like(temperature, anchor[0, 0])
    return jax.nn.log_softmax(jnp.where(allowed, scores, -jnp.inf), -1)  # never of nothing: see `partners`


def of_own(logp: Float[Array, "b n"], own: Int[Array, " b"]) -> Float[Array, " b"]:
    """−log-probability of each row's own partner."""
    return -jnp.take_along_axis(logp, own[:, None], 1)[:, 0]
