"""Batches whose rows are all of one topic, as a pure function of (key, step), bit-identical in NumPy and JAX."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Shaped, UInt32

from mmkd_jax.data._order import mix, order
from mmkd_jax.data.dataset import Dataset
from mmkd_jax.errors import UserError, choices

ROWS = "rows by topic"
"""Name under which `InMemory.arrays` has the rows in the order of their topics."""
_READ = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class Topics:
    """Rows by topic.

    Attributes:
        rows: indices of all rows, those of one topic side by side.
        sizes: number of rows of each topic.
    """

    rows: Int[np.ndarray, " n"]
    sizes: Int[np.ndarray, " t"]


def check_topic(dataset: Dataset, topic: str | None) -> None:
    """Raise unless the topic is a column with one integer a row; reads no data."""
    if topic is None:
        return
    if topic not in dataset.spec:
        raise UserError(f"topic={topic!r} is not a column; there are: {choices(dataset.spec)}")
    spec = dataset.spec[topic]
    if not np.issubdtype(spec.dtype, np.integer) or spec.shape:
        raise UserError(
            f"topic {topic!r} is {spec.dtype}{list(spec.shape)}; expected one integer a row: number the topics, such "
            "as np.unique(x, return_inverse=True)[1]"
        )


def read_topics(dataset: Dataset, topic: str, batch_size: int) -> Topics:
    """Read the column of topics, some rows at a time.

    Raises:
        UserError: a topic is negative, or has fewer rows than a batch.
    """
    check_topic(dataset, topic)
    pieces = (np.arange(i, min(i + _READ, dataset.size)) for i in range(0, dataset.size, _READ))
    values = np.concatenate([np.asarray(dataset.take(rows)[topic]) for rows in pieces])
    if len(wrong := np.flatnonzero(values < 0)):
        raise UserError(
            f"topic {values[wrong[0]]} in row {wrong[0]} is negative ({len(wrong)} such rows): expected 0 or more; "
            "remove rows without a topic, or give them one"
        )
    names, sizes = np.unique(values, return_counts=True)
    if len(small := np.flatnonzero(sizes < batch_size)):
        raise UserError(
            f"topic {names[small[0]]} has {sizes[small[0]]} rows, fewer than a batch of {batch_size} ({len(small)} of "
            f"{len(names)} topics): they would never be trained on; lower batch_size, join topics, or remove their rows"
        )
    return Topics(np.argsort(values, kind="stable").astype(np.int32), sizes.astype(np.int32))


def rows_of_topic(
    words: UInt32[Array | np.ndarray, " w"],
    step: Int[Array, ""] | int,
    places: Shaped[Array | np.ndarray, " b"],
    batch_size: int,
    sizes: Int[np.ndarray, " t"],
    rows: Int[Array | np.ndarray, " n"],
) -> tuple[Int[Array | np.ndarray, " b"], Int[Array | np.ndarray, " b"]]:
    """Return the row indices of some places of a batch of one topic.

    Formula: an epoch has ⌊n_t / b⌋ batches of each topic t, in the order of a keyed permutation of them all; batch k of
    topic t has positions k · b … of a keyed permutation of its n_t rows, which is another one in each epoch

    Args:
        words: key data, uint32, see `order`.
        step: number of the step; NumPy or Python in, NumPy out.
        places: places of the batch, 0 … b − 1; a process may take some of them.
        batch_size: b, rows per batch.
        sizes: number of rows of each topic, at least b.
        rows: indices of all rows, those of one topic side by side.

    Returns:
        Row indices and epochs, both int32.

    Example:
        >>> key, members, sizes = np.array([0, 7], np.uint32), np.arange(6), np.array([4, 2], np.int32)
        >>> [sorted(rows_of_topic(key, step, np.arange(2), 2, sizes, members)[0].tolist()) for step in range(3)]
        [[4, 5], [2, 3], [0, 1]]
    """
    xp = jnp if isinstance(step, jax.Array) else np
    batches = sizes // batch_size
    total = np.array([batches.sum()], np.uint32)
    number = xp.asarray(step).reshape(1).astype(xp.uint32)
    epoch = number // total
    drawn, _ = order(words, number % total, int(total[0]), epoch)
    topic = xp.searchsorted(np.cumsum(batches), drawn, side="right")
    starts = np.cumsum(batches) - batches, np.cumsum(sizes) - sizes
    first, before, size = (xp.asarray(x, xp.uint32)[topic] for x in (*starts, sizes))
    own = xp.concatenate([words[:1], mix(words[-1:] ^ mix(topic.astype(xp.uint32) + np.array([1], np.uint32)))])
    position = (drawn.astype(xp.uint32) - first) * np.array([batch_size], np.uint32) + places.astype(xp.uint32)
    inside, epochs = order(own, position, size, epoch)
    return rows[before.astype(xp.int32) + inside], epochs
