"""The reader for data that fit on the device: pure in (key, step), so that scans and populations take it."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax.data import reader
from mmkd_jax.data.dataset import Dataset
from mmkd_jax.data.order import order
from mmkd_jax.data.partners import Partners


@dataclasses.dataclass(frozen=True)
class Memory:
    """Batches from arrays on the device.

    Attributes:
        dataset: the rows.
        batch_size: rows of a batch.
        slots: how many augmented versions of a row there are: `slot` is its epoch modulo this; None is one each epoch.
        partners: columns of a second row for each, for augmentations that mix; evaluation batches have none.
        records: what training batches hold for each row and slot besides, such as a teacher's outputs.

    Example:
        >>> from mmkd_jax.data import from_columns
        >>> reader = Memory(from_columns({"x": np.arange(4.0, dtype=np.float32)}, "four"), batch_size=2)
        >>> batch = reader.batch(reader.arrays(), jax.random.key(0), 0)
        >>> batch["x"].shape, sorted(batch)
        ((2,), ['example_id', 'slot', 'x'])
    """

    dataset: Dataset
    batch_size: int
    slots: int | None = None
    partners: Partners | None = None
    records: reader.Records | None = None

    @property
    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of a training batch; needs no data."""
        return reader.batch_spec(self.dataset, self.batch_size, self.partners, self.records)

    @property
    def size(self) -> int:
        """Number of rows."""
        return self.dataset.size

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """What must not change when a run resumes."""
        return reader.fingerprint(self.dataset, self.batch_size, self.slots, self.partners, self.records)

    def arrays(self) -> dict[str, jax.Array]:
        """All columns, on the device; an argument of `batch` so that they are no constants of a compiled program."""
        records = self.records.arrays if self.records else {}
        # a copy even where the host's memory could serve: records are mapped from files
        return jax.device_put({**self.dataset.columns, **records}, may_alias=False)

    def batch(self, arrays: Mapping[str, jax.Array], key: jax.Array, step) -> dict[str, jax.Array]:
        """The batch of a step: pure, for jit, scan and vmap over keys."""
        position = jnp.asarray(step, jnp.uint32) * np.uint32(self.batch_size) + jnp.arange(
            self.batch_size, dtype=jnp.uint32
        )
        rows, epoch = order(jax.random.key_data(key), position, self.size)
        batch = {k: arrays[k][rows] for k in self.dataset.spec} | {"slot": reader.slot(epoch, self.slots)}
        if self.partners is not None:
            others = self.partners.rows(batch["example_id"], batch["slot"], self.size)
            batch |= {f"partner.{k}": arrays[k][others] for k in self.partners.columns(self.dataset)}
        if self.records is not None:
            batch |= self.records.of(arrays, rows, batch["slot"])
        # pyrefly: ignore[bad-return]  JAX in, JAX out
        return batch

    def batches(self, seed: int, start: int = 0) -> Iterator[dict[str, jax.Array]]:
        """Training: shuffled anew in each epoch, without end, from step `start`."""
        arrays, draw, key = self.arrays(), jax.jit(self.batch), jax.random.key(seed)
        step = start
        while True:
            yield draw(arrays, key, step)
            step += 1

    def once(self) -> Iterator[dict[str, np.ndarray]]:
        """Evaluation: each row once, in order, padded."""
        columns = self.dataset.columns
        return reader.padded(self.dataset, self.batch_size, lambda rows: {k: v[rows] for k, v in columns.items()})

    def with_records(self, records: Mapping[str, reader.Record], about: Mapping[str, Any]) -> "Memory":
        """The same reader, whose training batches hold more for each row and slot."""
        mine = self.records or reader.Records({}, {})
        both = reader.Records({**mine.arrays, **records}, {**mine.about, **about})
        both.check(self.size, self.slots)
        return dataclasses.replace(self, records=both)

    def with_columns(self, **columns: np.ndarray) -> "Memory":
        """The same reader of rows with more columns."""
        return dataclasses.replace(self, dataset=self.dataset.with_columns(**columns))
