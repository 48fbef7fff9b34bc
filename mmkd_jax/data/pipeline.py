"""The reader for data of any size, on Grain: rows are read when they are needed, by threads, ahead of the step."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from mmkd_jax.data import reader
from mmkd_jax.data.dataset import Dataset
from mmkd_jax.data.order import order
from mmkd_jax.data.partners import Partners
from mmkd_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Batches from random access to stored rows; the same batches as `Memory` gives.

    Attributes:
        dataset: the rows.
        batch_size: rows of a global batch.
        process_index: which contiguous part of each global batch this process reads.
        process_count: into how many parts.
        threads: that read ahead; one is fastest for small rows.
        ahead: batches that are read ahead.
        slots: how many augmented versions of a row there are: `slot` is its epoch modulo this; None is one each epoch.
        partners: columns of a second row for each, for augmentations that mix; evaluation batches have none.
        records: what training batches hold for each row and slot besides, such as a teacher's outputs.

    Example:
        >>> from mmkd_jax.data import from_columns
        >>> dataset = from_columns({"x": np.arange(4.0, dtype=np.float32)}, "four")
        >>> next(Pipeline(dataset, batch_size=2).batches(seed=0))["x"].shape
        (2,)
    """

    dataset: Dataset
    batch_size: int
    process_index: int = 0
    process_count: int = 1
    threads: int = 1
    ahead: int = 16
    slots: int | None = None
    partners: Partners | None = None
    records: reader.Records | None = None

    @property
    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of a global training batch; needs no data."""
        return reader.batch_spec(self.dataset, self.batch_size, self.partners, self.records)

    @property
    def size(self) -> int:
        """Number of rows."""
        return self.dataset.size

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """What must not change when a run resumes; the number of processes may."""
        return reader.fingerprint(self.dataset, self.batch_size, self.slots, self.partners, self.records)

    def batches(self, seed: int, start: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """Training: shuffled anew in each epoch, without end, from step `start`; this process's rows."""
        import grain

        if self.batch_size % self.process_count:
            raise UserError(f"batch_size {self.batch_size} does not divide over {self.process_count} processes")
        local = self.batch_size // self.process_count
        words = np.array([0, seed], np.uint32)

        def read(step: int) -> dict[str, np.ndarray]:
            first = step * self.batch_size + self.process_index * local
            rows, epoch = map(np.asarray, order(words, np.arange(local, dtype=np.uint32) + np.uint32(first), self.size))
            batch = self.dataset.fetch(rows) | {"slot": reader.slot(epoch, self.slots)}
            if self.partners is not None:
                others = np.asarray(self.partners.rows(batch["example_id"], batch["slot"], self.size))
                fetched = self.dataset.fetch(others)
                batch |= {f"partner.{k}": fetched[k] for k in self.partners.columns(self.dataset)}
            if self.records is not None:
                batch |= self.records.of(self.records.arrays, rows, batch["slot"])
            return batch

        # Grain reads steps, not rows: which rows a step holds is `order`'s to say, and the state is the step
        steps = grain.MapDataset.range(start, 2**31 - 1).map(read)
        return iter(steps.to_iter_dataset(grain.ReadOptions(num_threads=self.threads, prefetch_buffer_size=self.ahead)))

    def once(self) -> Iterator[dict[str, np.ndarray]]:
        """Evaluation: each row once, in order, padded; all rows, on every process."""
        return reader.padded(self.dataset, self.batch_size, self.dataset.fetch)

    def with_records(self, records: Mapping[str, reader.Record], about: Mapping[str, Any]) -> "Pipeline":
        """The same reader, whose training batches hold more for each row and slot."""
        mine = self.records or reader.Records({}, {})
        both = reader.Records({**mine.arrays, **records}, {**mine.about, **about})
        both.check(self.size, self.slots)
        return dataclasses.replace(self, records=both)

    def with_columns(self, **columns: np.ndarray) -> "Pipeline":
        """The same reader of rows with more columns."""
        return dataclasses.replace(self, dataset=self.dataset.with_columns(**columns))
