"""In-memory loader for data that fit on the device; batches are pure in (key, step), for scans and populations."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax.data import _topics, loader
from mmkd_jax.data._order import check_seed, first_position, order
from mmkd_jax.data.dataset import Dataset
from mmkd_jax.data.partners import Partners


@dataclasses.dataclass(frozen=True)
class InMemory:
    """Loader of batches from arrays on the device.

    Attributes:
        dataset: the data set.
        batch_size: rows per batch.
        num_views: number of augmented views per row: `view_index` is the epoch modulo num_views; None is a new view in
            every epoch.
        partners: columns of a partner row for each row, for mixing augmentations; training batches only.
        records: additional columns of training batches for each row and view, such as a teacher's outputs.
        topic: name of an integer column: all rows of a training batch have the same value. An epoch has ⌊n / b⌋ batches
            of a topic with n rows; the rest, other rows in each epoch, is left out.

    Example:
        >>> from mmkd_jax.data import from_columns
        >>> rows = InMemory(from_columns({"x": np.arange(4.0, dtype=np.float32)}, "four"), batch_size=2)
        >>> batch = rows.batch(rows.arrays(), jax.random.key(0), 0)
        >>> batch["x"].shape, sorted(batch)
        ((2,), ['example_id', 'view_index', 'x'])
    """

    dataset: Dataset
    batch_size: int
    num_views: int | None = None
    partners: Partners | None = None
    records: loader.Records | None = None
    topic: str | None = None

    def __post_init__(self):
        loader.check_rows(self.dataset)
        _topics.check_topic(self.dataset, self.topic)

    @property
    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of a training batch; reads no data."""
        return loader.batch_spec(self.dataset, self.batch_size, self.partners, self.records)

    @property
    def size(self) -> int:
        """Number of rows."""
        return self.dataset.size

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """Identity of the batches; must not change when a run resumes."""
        return loader.fingerprint(
            self.dataset, self.batch_size, self.num_views, self.partners, self.records, self.topic
        )

    @functools.cached_property
    def topics(self) -> _topics.Topics | None:
        """Rows by topic, read once; None without topics."""
        return None if self.topic is None else _topics.read_topics(self.dataset, self.topic, self.batch_size)

    def arrays(self) -> dict[str, jax.Array]:
        """Return all columns on the device, to be passed to `batch` as arguments of the compiled program."""
        records = self.records.arrays if self.records else {}
        own = {} if self.topics is None else {_topics.ROWS: self.topics.rows}
        # force a copy: records are memory-mapped files, which device arrays must not alias
        return jax.device_put({**self.dataset.columns, **records, **own}, may_alias=False)

    def batch(self, arrays: Mapping[str, jax.Array], key: jax.Array, step) -> dict[str, jax.Array]:
        """Return the batch of a step; pure, for jit, scan and vmap over keys."""
        if self.topics is None:
            epoch, first = first_position(jnp.asarray(step), self.batch_size, self.size)
            position = first + jnp.arange(self.batch_size, dtype=jnp.uint32)
            rows, epoch = order(jax.random.key_data(key), position, self.size, epoch)
        else:
            words, places = jax.random.key_data(key), jnp.arange(self.batch_size, dtype=jnp.uint32)
            members, sizes = arrays[_topics.ROWS], self.topics.sizes
            rows, epoch = _topics.rows_of_topic(words, jnp.asarray(step), places, self.batch_size, sizes, members)
        batch = {k: arrays[k][rows] for k in self.dataset.spec} | {
            "view_index": loader.view_index(epoch, self.num_views)
        }
        if self.partners is not None:
            others = self.partners.rows(batch["example_id"], batch["view_index"], self.size)
            batch |= {f"partner.{k}": arrays[k][others] for k in self.partners.columns(self.dataset)}
        if self.records is not None:
            batch |= self.records.of(arrays, rows, batch["view_index"])
        # pyrefly: ignore[bad-return]  JAX in, JAX out
        return batch

    def share(self, index: int, count: int) -> "InMemory":
        """Return this loader: every process holds all rows, and the compiled program takes its part of each batch."""
        del index, count
        return self

    def batches(self, seed: int, start: int = 0) -> Iterator[dict[str, jax.Array]]:
        """Iterate over training batches from step `start`: reshuffled every epoch, endless."""
        check_seed(seed)
        arrays, draw, key = self.arrays(), jax.jit(self.batch), jax.random.key(seed)
        step = start
        while True:
            yield draw(arrays, key, step)
            step += 1

    def eval_batches(self) -> Iterator[dict[str, np.ndarray]]:
        """Iterate over evaluation batches: each row once, in order, last batch padded."""
        columns = self.dataset.columns
        return loader.padded(self.dataset, self.batch_size, lambda rows: {k: v[rows] for k, v in columns.items()})

    def with_records(self, records: Mapping[str, loader.Record], about: Mapping[str, Any]) -> "InMemory":
        """Return a loader whose training batches have additional columns for each row and view."""
        mine = self.records or loader.Records({}, {})
        both = loader.Records({**mine.arrays, **records}, {**mine.about, **about})
        both.check(self.size, self.num_views)
        return dataclasses.replace(self, records=both)

    def with_columns(self, **columns: Any) -> "InMemory":
        """Return a loader of the data set with additional columns."""
        return dataclasses.replace(self, dataset=self.dataset.with_columns(**columns))
