"""What a reader of batches is: two ways to read, one interface."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from mmkd_jax.data.dataset import Dataset
from mmkd_jax.data.partners import Partners
from mmkd_jax.errors import UserError

Record = np.ndarray | jax.ShapeDtypeStruct
"""Values [slots, rows, …]; or their shape alone, before they are there."""


@runtime_checkable
class Reader(Protocol):
    """Batches of a data set: `Memory` where it fits on the device, `Pipeline` for any size.

    Both give the same batches, bit for bit: the step-th batch is a pure function of (seed, step).
    """

    @property
    def dataset(self) -> Dataset:
        """The rows."""
        ...

    @property
    def batch_size(self) -> int:
        """Rows of a batch."""
        ...

    @property
    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of a training batch; needs no data."""
        ...

    @property
    def size(self) -> int:
        """Number of rows."""
        ...

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """What must not change when a run resumes."""
        ...

    def batches(self, seed: int, start: int = 0) -> Iterator[dict[str, Any]]:
        """Training: shuffled anew in each epoch, without end, from step `start`.

        `slot` is the row's epoch, modulo the reader's slots where it has them.
        """
        ...

    def once(self) -> Iterator[dict[str, Any]]:
        """Evaluation: each row once, in order; the last batch is padded with rows whose `valid` is False."""
        ...

    def with_records(self, records: Mapping[str, Record], about: Mapping[str, Any]) -> "Reader":
        """The same reader, whose training batches hold more for each row and slot, such as a teacher's outputs.

        Args:
            records: name -> [slots, rows, …]; one slot serves all.
            about: what identifies them, for the fingerprint.
        """
        ...

    def with_columns(self, **columns: np.ndarray) -> "Reader":
        """The same reader of rows with more columns."""
        ...


def batch_spec(
    dataset: Dataset, batch_size: int, partners: Partners | None = None, records: "Records | None" = None
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a training batch of a data set."""
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}")
    if texts := [k for k, s in dataset.spec.items() if s.dtype.kind in "SUO"]:
        raise UserError(f"column {texts[0]!r} holds texts, which no model reads: see data.tokenized")
    rows = {k: jax.ShapeDtypeStruct((batch_size, *s.shape), s.dtype) for k, s in dataset.spec.items()}
    more = {f"partner.{k}": rows[k] for k in partners.columns(dataset)} if partners else {}
    kept = records.arrays if records else {}
    more |= {k: jax.ShapeDtypeStruct((batch_size, *x.shape[2:]), x.dtype) for k, x in kept.items()}
    return rows | more | {"slot": jax.ShapeDtypeStruct((batch_size,), np.dtype(np.int32))}


@dataclasses.dataclass(frozen=True, eq=False)
class Records:
    """What training batches hold for each row and slot, besides the columns of the data set.

    Attributes:
        arrays: name -> [slots, rows, …].
        about: what identifies them.
    """

    arrays: Mapping[str, Record]
    about: Mapping[str, Any]

    def check(self, rows: int, slots: int | None) -> None:
        """Refuse records of another number of rows or slots than the reader's."""
        for name, x in self.arrays.items():
            if x.shape[1] != rows or x.shape[0] not in (1, slots):
                raise UserError(
                    f"records {name} are of {x.shape[0]} slots and {x.shape[1]} rows, the reader has {slots or 1} and "
                    f"{rows}"
                )

    def of(self, arrays: Mapping[str, Any], rows: Any, slot: Any) -> dict[str, Any]:
        """Those of some rows; one slot serves all."""
        return {k: arrays[k][slot if arrays[k].shape[0] > 1 else 0 * slot, rows] for k in self.arrays}


def fingerprint(
    dataset: Dataset,
    batch_size: int,
    slots: int | None = None,
    partners: Partners | None = None,
    records: Records | None = None,
) -> dict[str, Any]:
    """What must not change when a run resumes."""
    more: dict[str, Any] = {} if slots is None else {"slots": slots}
    more |= {} if partners is None else {"partners": repr(partners)}
    more |= {} if records is None else {"records": dict(records.about)}
    return {**dataset.fingerprint, "batch_size": batch_size, **more}


def at_slot(reader: Reader, slot: int, number: int) -> dict[str, np.ndarray]:
    """A training batch of rows in order, in one slot, with their partners where there are some.

    Args:
        reader: its rows, batch size and partners.
        slot: of all rows.
        number: of the batch; the last one repeats row 0 where it has none, with `valid` False.

    Returns:
        The batch, and in it the row numbers, `row`.
    """
    partners, size, fetch = getattr(reader, "partners", None), reader.size, reader.dataset.take
    rows = np.arange(number * reader.batch_size, (number + 1) * reader.batch_size)
    valid = rows < size
    batch = fetch(np.where(valid, rows, 0)) | {"slot": np.full(len(rows), slot, np.int32), "valid": valid}
    if partners is not None:
        fetched = fetch(np.asarray(partners.rows(batch["example_id"], batch["slot"], size)))
        batch |= {f"partner.{k}": fetched[k] for k in partners.columns(reader.dataset)}
    return batch | {"row": rows}


def slot(epoch: Any, slots: int | None) -> Any:
    """The slot of a row in an epoch: the epoch, or the epoch modulo the number of slots.

    Raises:
        UserError: a number of slots below 1.
    """
    if slots is None:
        return epoch
    if slots < 1:
        raise UserError(f"slots must be at least 1, or None for one a row's epoch, not {slots}")
    return epoch % np.array([slots], np.int32)


def padded(dataset: Dataset, batch_size: int, fetch) -> Iterator[dict[str, np.ndarray]]:
    """Each row once; the last batch repeats row 0 where it has none, with `valid` False."""
    for first in range(0, dataset.size, batch_size):
        rows = np.arange(first, first + batch_size)
        valid = rows < dataset.size
        yield fetch(np.where(valid, rows, 0)) | {"slot": np.zeros(batch_size, np.int32), "valid": valid}
