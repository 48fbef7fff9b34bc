"""Loader protocol, and helpers shared by the in-memory and the Grain loader."""

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from mmkd_jax.data.dataset import Dataset
from mmkd_jax.data.partners import Partners
from mmkd_jax.errors import UserError

Record = np.ndarray | jax.ShapeDtypeStruct
"""Values [views, rows, …], or only their shape before they are computed."""


@runtime_checkable
class Loader(Protocol):
    """Loader of a data set's batches: `InMemory` if the data fit on the device, `GrainLoader` for any size.

    Both yield bit-identical batches: the batch is a pure function of (seed, step).
    """

    @property
    def dataset(self) -> Dataset:
        """The data set."""
        ...

    @property
    def batch_size(self) -> int:
        """Rows per batch."""
        ...

    @property
    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of a training batch; reads no data."""
        ...

    @property
    def size(self) -> int:
        """Number of rows."""
        ...

    @property
    def num_views(self) -> int | None:
        """Number of augmented views per row; None is a new view in every epoch."""
        ...

    @property
    def partners(self) -> Partners | None:
        """Columns of a partner row for each row, for mixing augmentations."""
        ...

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """Identity of the batches; must not change when a run resumes."""
        ...

    def share(self, index: int, count: int) -> "Loader":
        """Return the loader of one of several processes: its `batches` yield rows index · b/count onward of each batch.

        Args:
            index: index of the process, 0 … count − 1.
            count: number of processes.
        """
        ...

    def batches(self, seed: int, start: int = 0) -> Iterator[dict[str, Any]]:
        """Iterate over training batches from step `start`: reshuffled every epoch, endless.

        `view_index` is the row's epoch, modulo the loader's num_views if it has one.
        """
        ...

    def eval_batches(self) -> Iterator[dict[str, Any]]:
        """Iterate over evaluation batches: each row once, in order; `valid` is False for padding rows of the last."""
        ...

    def with_records(self, records: Mapping[str, Record], about: Mapping[str, Any]) -> "Loader":
        """Return a loader whose training batches have additional columns per row and view, such as teacher outputs.

        Args:
            records: name -> [views, rows, …]; a single view is used for all view indices.
            about: identity of the records, for the fingerprint.
        """
        ...

    def with_columns(self, **columns: Any) -> "Loader":
        """Return a loader of the data set with additional columns."""
        ...


def check_loader(loader: Any, name: str) -> None:
    """Raise a UserError that names the members of the protocol that a loader lacks.

    Example:
        >>> check_loader([1, 2], "data")
        Traceback (most recent call last):
        mmkd_jax.errors.UserError: data is a list, which has no dataset, batch_size, spec, size, …: expected a Loader
    """
    members = [n for n in vars(Loader) if not n.startswith("_")]
    absent = object()
    missing = [n for n in members if inspect.getattr_static(loader, n, absent) is absent]
    if missing:
        shown = ", ".join(missing[:4]) + (", …" if len(missing) > 4 else "")
        raise UserError(f"{name} is a {type(loader).__name__}, which has no {shown}: expected a Loader")


def batch_spec(
    dataset: Dataset, batch_size: int, partners: Partners | None = None, records: "Records | None" = None
) -> dict[str, jax.ShapeDtypeStruct]:
    """Return shapes and dtypes of a training batch."""
    check_rows(dataset)
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}")
    if dataset.size >= 2**31:
        raise UserError(f"the data set has {dataset.size} rows; expected fewer than {2**31}")
    if wide := [k for k, s in dataset.spec.items() if s.dtype.name in ("int64", "uint64", "float64")]:
        raise UserError(f"column {wide[0]!r} is {dataset.spec[wide[0]].dtype}; JAX computes in 32 bits: convert it")
    if texts := [k for k, s in dataset.spec.items() if s.dtype.kind in "SUO"]:
        raise UserError(
            f"column {texts[0]!r} contains text, which models cannot read: convert it with data.tokenize, labels with "
            "np.unique(…, return_inverse=True), paths with data.process"
        )
    rows = {k: jax.ShapeDtypeStruct((batch_size, *s.shape), s.dtype) for k, s in dataset.spec.items()}
    more = {f"partner.{k}": rows[k] for k in partners.columns(dataset)} if partners else {}
    kept = records.arrays if records else {}
    more |= {k: jax.ShapeDtypeStruct((batch_size, *x.shape[2:]), x.dtype) for k, x in kept.items()}
    return rows | more | {"view_index": jax.ShapeDtypeStruct((batch_size,), np.dtype(np.int32))}


@dataclasses.dataclass(frozen=True, eq=False)
class Records:
    """Additional columns of training batches for each row and view.

    Attributes:
        arrays: name -> [views, rows, …].
        about: identity of the records, for the fingerprint.
    """

    arrays: Mapping[str, Record]
    about: Mapping[str, Any]

    def check(self, rows: int, num_views: int | None) -> None:
        """Raise UserError if the records' number of rows or views differs from the loader's."""
        for name, x in self.arrays.items():
            if x.shape[1] != rows or x.shape[0] not in (1, num_views):
                raise UserError(
                    f"records {name!r} have {x.shape[0]} views and {x.shape[1]} rows, but the loader has "
                    f"{num_views or 1} and {rows}"
                )

    def of(self, arrays: Mapping[str, Any], rows: Any, view_index: Any) -> dict[str, Any]:
        """Return the records of some rows and their view indices; a single view is used for all view indices."""
        return {k: arrays[k][view_index if arrays[k].shape[0] > 1 else 0 * view_index, rows] for k in self.arrays}


def fingerprint(
    dataset: Dataset,
    batch_size: int,
    num_views: int | None = None,
    partners: Partners | None = None,
    records: Records | None = None,
    topic: str | None = None,
) -> dict[str, Any]:
    """Return the identity of a loader's batches; must not change when a run resumes."""
    more: dict[str, Any] = {} if num_views is None else {"num_views": num_views}
    more |= {} if partners is None else {"partners": repr(partners)}
    more |= {} if records is None else {"records": dict(records.about)}
    more |= {} if topic is None else {"topic": topic}
    return {**dataset.fingerprint, "batch_size": batch_size, **more}


def batch_in_order(loader: Loader, view_index: int, number: int) -> dict[str, np.ndarray]:
    """Return a training batch of consecutive rows at one view index, with partners if the loader has them.

    Args:
        loader: source of the rows, batch size and partners.
        view_index: view index of all rows.
        number: batch index; the last batch is padded with row 0, marked by `valid` False.

    Returns:
        The batch, with row indices in the column `row`.
    """
    partners, size, fetch = loader.partners, loader.size, loader.dataset.take
    rows = np.arange(number * loader.batch_size, (number + 1) * loader.batch_size)
    valid = rows < size
    batch = fetch(np.where(valid, rows, 0)) | {"view_index": np.full(len(rows), view_index, np.int32), "valid": valid}
    if partners is not None:
        fetched = fetch(np.asarray(partners.rows(batch["example_id"], batch["view_index"], size)))
        batch |= {f"partner.{k}": fetched[k] for k in partners.columns(loader.dataset)}
    return batch | {"row": rows}


def view_index(epoch: Any, num_views: int | None) -> Any:
    """Return the view index of an epoch: the epoch itself, or the epoch modulo the number of views.

    Raises:
        UserError: num_views is below 1.
    """
    if num_views is None:
        return epoch
    if num_views < 1:
        raise UserError(f"num_views must be at least 1, or None for a new view in every epoch, not {num_views}")
    return epoch % np.array([num_views], np.int32)


def check_rows(dataset: Dataset) -> None:
    """Raise for a data set without rows, by its name and the filters that left none."""
    if dataset.size < 1:
        about = dataset.fingerprint
        named = ", ".join(f"{about[k]}" for k in ("name", "split") if k in about)
        filters = f" where {about['where']}" if "where" in about else ""
        raise UserError(f"data set {named!r} has no rows{filters}: check the split and the filter")


def padded(dataset: Dataset, batch_size: int, fetch) -> Iterator[dict[str, np.ndarray]]:
    """Iterate over all rows once, in order; the last batch is padded with row 0, marked by `valid` False."""
    for first in range(0, dataset.size, batch_size):
        rows = np.arange(first, first + batch_size)
        valid = rows < dataset.size
        batch = fetch(np.where(valid, rows, 0))
        valid = valid & np.asarray(batch["valid"]) if "valid" in batch else valid
        yield batch | {"view_index": np.zeros(batch_size, np.int32), "valid": valid}
