"""Embeddings of queries and documents, as the losses on the documents of a batch compare them."""

from typing import Literal

from jaxtyping import Array, Bool, Float

from mmkd_jax.numeric import at_least_float32, rows_that_count, unit, zero_rows

Similarity = Literal["cosine", "dot"]


def embeddings(
    arrays: tuple[Float[Array, "b _"], ...], similarity: str, where: Bool[Array, " b"] | None
) -> tuple[Bool[Array, " b"], list[Array]]:
    """Return the row mask, and the embeddings whose inner products are the similarities, with zeros in invalid rows."""
    mask = rows_that_count(arrays[0], where)
    arrays = tuple(zero_rows(x, mask) for x in at_least_float32(*arrays))
    return mask, [unit(x) for x in arrays] if similarity == "cosine" else list(arrays)
