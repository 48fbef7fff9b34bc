"""Grain loader for data of any size: threads read rows on demand and prefetch batches."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from mmkd_jax.data import _topics, loader
from mmkd_jax.data._order import check_seed, first_position, order
from mmkd_jax.data.dataset import Dataset
from mmkd_jax.data.partners import Partners
from mmkd_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class GrainLoader:
    """Loader with random access to stored rows; yields the same batches as `InMemory`.

    Attributes:
        dataset: the data set.
        batch_size: rows per global batch.
        process_index: index of the contiguous part of each global batch that this process reads.
        process_count: number of parts.
        threads: number of prefetching threads; one is fastest for small rows.
        ahead: number of batches to prefetch.
        num_views: number of augmented views per row: `view_index` is the epoch modulo num_views; None is a new view in
            every epoch.
        partners: columns of a partner row for each row, for mixing augmentations; training batches only.
        records: additional columns of training batches for each row and view, such as a teacher's outputs.
        topic: name of an integer column: all rows of a training batch have the same value, as for `InMemory`. Reads all
            rows once before the first batch, a few thousand at a time.

    Example:
        >>> from mmkd_jax.data import from_columns
        >>> dataset = from_columns({"x": np.arange(4.0, dtype=np.float32)}, "four")
        >>> next(GrainLoader(dataset, batch_size=2).batches(seed=0))["x"].shape
        (2,)
    """

    dataset: Dataset
    batch_size: int
    process_index: int = 0
    process_count: int = 1
    threads: int = 1
    ahead: int = 16
    num_views: int | None = None
    partners: Partners | None = None
    records: loader.Records | None = None
    topic: str | None = None

    def __post_init__(self):
        loader.check_rows(self.dataset)
        _topics.check_topic(self.dataset, self.topic)

    @property
    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of a global training batch; reads no data."""
        return loader.batch_spec(self.dataset, self.batch_size, self.partners, self.records)

    @property
    def size(self) -> int:
        """Number of rows."""
        return self.dataset.size

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """Identity of the batches; must not change when a run resumes. It excludes the number of processes."""
        return loader.fingerprint(
            self.dataset, self.batch_size, self.num_views, self.partners, self.records, self.topic
        )

    def share(self, index: int, count: int) -> "GrainLoader":
        """Return the loader of process `index` of `count`: its batches hold a contiguous part of each global batch."""
        return dataclasses.replace(self, process_index=index, process_count=count)

    def batches(self, seed: int, start: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """Iterate over training batches from step `start`, this process's rows: reshuffled every epoch, endless."""
        import grain

        if self.batch_size % self.process_count:
            raise UserError(f"batch_size {self.batch_size} is not divisible by {self.process_count} processes")
        check_seed(seed)
        local = self.batch_size // self.process_count
        words = np.array([0, seed], np.uint32)
        places = np.arange(local, dtype=np.uint32) + np.uint32(self.process_index * local)
        topics = None if self.topic is None else _topics.read_topics(self.dataset, self.topic, self.batch_size)

        def read(step: int) -> dict[str, np.ndarray]:
            if topics is None:
                epoch, first = first_position(step, self.batch_size, self.size)
                drawn = order(words, first + places, self.size, epoch)
            else:
                drawn = _topics.rows_of_topic(words, step, places, self.batch_size, topics.sizes, topics.rows)
            rows, epoch = map(np.asarray, drawn)
            batch = self.dataset.fetch(rows) | {"view_index": loader.view_index(epoch, self.num_views)}
            if self.partners is not None:
                others = np.asarray(self.partners.rows(batch["example_id"], batch["view_index"], self.size))
                fetched = self.dataset.fetch(others)
                batch |= {f"partner.{k}": fetched[k] for k in self.partners.columns(self.dataset)}
            if self.records is not None:
                batch |= self.records.of(self.records.arrays, rows, batch["view_index"])
            return batch

        # Grain iterates over steps, not rows: `order` maps a step to its rows, so the step is the only state
        steps = grain.MapDataset.range(start, 2**31 - 1).map(read)
        return iter(steps.to_iter_dataset(grain.ReadOptions(num_threads=self.threads, prefetch_buffer_size=self.ahead)))

    def eval_batches(self) -> Iterator[dict[str, np.ndarray]]:
        """Iterate over evaluation batches: each row once, in order, last batch padded; all rows on every process."""
        return loader.padded(self.dataset, self.batch_size, self.dataset.fetch)

    def with_records(self, records: Mapping[str, loader.Record], about: Mapping[str, Any]) -> "GrainLoader":
        """Return a loader whose training batches have additional columns for each row and view."""
        mine = self.records or loader.Records({}, {})
        both = loader.Records({**mine.arrays, **records}, {**mine.about, **about})
        both.check(self.size, self.num_views)
        return dataclasses.replace(self, records=both)

    def with_columns(self, **columns: Any) -> "GrainLoader":
        """Return a loader of the data set with additional columns."""
        return dataclasses.replace(self, dataset=self.dataset.with_columns(**columns))
