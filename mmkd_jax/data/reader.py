"""What a reader of batches is: two ways to read, one interface."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from mmkd_jax.data.dataset import Dataset
from mmkd_jax.data.partners import Partners
from mmkd_jax.errors import UserError


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

    def with_columns(self, **columns: np.ndarray) -> "Reader":
        """The same reader of rows with more columns, such as a teacher's outputs."""
        ...


def batch_spec(dataset: Dataset, batch_size: int, partners: Partners | None = None) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a training batch of a data set."""
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}")
    rows = {k: jax.ShapeDtypeStruct((batch_size, *s.shape), s.dtype) for k, s in dataset.spec.items()}
    more = {f"partner.{k}": rows[k] for k in partners.columns(dataset)} if partners else {}
    return rows | more | {"slot": jax.ShapeDtypeStruct((batch_size,), np.dtype(np.int32))}


def fingerprint(
    dataset: Dataset, batch_size: int, slots: int | None = None, partners: Partners | None = None
) -> dict[str, Any]:
    """What must not change when a run resumes."""
    more = {k: v if k == "slots" else repr(v) for k, v in {"slots": slots, "partners": partners}.items() if v}
    return {**dataset.fingerprint, "batch_size": batch_size, **more}


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
