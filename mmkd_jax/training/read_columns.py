"""Columns that terms and metrics read: labels are checked where a term reads them, in the rows that its masks take."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from mmkd_jax.core.dependence import used_inputs
from mmkd_jax.core.model import predict
from mmkd_jax.core.task import Task, measure
from mmkd_jax.data.grain_loader import GrainLoader
from mmkd_jax.data.in_memory import InMemory
from mmkd_jax.data.loader import Loader, batch_spec
from mmkd_jax.errors import UserError, choices
from mmkd_jax.training.banks import check_banks
from mmkd_jax.training.scores import check_size
from mmkd_jax.training.training import Training


def label_check(training: Training) -> Callable[[Mapping[str, Any]], None]:
    """Return a check of training columns, whole or a batch: labels in the rows that some term counts.

    A term counts the rows in which all bool columns that it reads are True.
    """
    reads = [{p.removeprefix("batch.") for p in paths if p.startswith("batch.")} for paths in training.reads.values()]

    def is_mask(x):
        return x.dtype == np.bool_ and x.ndim == 1

    def check(columns):
        rows = len(next(iter(columns.values())))
        for names in reads:
            there = {k: columns[k] for k in names | {"valid"} if k in columns}
            masks = [np.asarray(x) for x in there.values() if is_mask(x)]
            if len(masks) == len(there):
                continue
            seen = _Asked({**columns, "valid": np.logical_and.reduce([np.ones(rows, bool), *masks])})
            try:
                check_labels(training.task, seen)
            except UserError:
                if seen.last is None or seen.last in names | {"valid"}:  # None: it read a copy
                    raise

    return check


def check_labels(task: Task, columns: "_Asked") -> None:
    """Check labels, and that no row lacks one that is a column with gaps, `present.LABEL`, of which the task knows not.

    Raises:
        UserError: an error of `task.check`, or a missing label, which is stored as 0.
    """
    task.check(columns)
    for name in sorted(columns.names):
        present = f"present.{name}"
        if present in columns.names or present not in {*columns}:
            continue
        valid = np.asarray(dict.get(columns, "valid", True))
        if len(missing := np.flatnonzero(~np.asarray(dict.__getitem__(columns, present)) & valid)):
            columns.last = name
            raise UserError(
                f"{name!r} of task {task.name!r} is missing in row {missing[0]} ({len(missing)} such rows), where it "
                f'would count as 0: leave them out with .where("{present}"), or where= of a term or a multi_task'
            )


def label_fault(task: Task, loader: Loader) -> UserError | None:
    """Return the error of a task about shape or dtype of its label columns; rows are read only if there is one.

    Missing columns do not count. If the data are in memory, the error names the first bad row.
    """
    if not isinstance(loader, InMemory | GrainLoader):
        return None
    seen, found = _Asked({k: np.zeros((0, *x.shape), x.dtype) for k, x in loader.dataset.spec.items()}), None
    try:
        check_labels(task, seen)
    except UserError as error:
        found = None if seen.names - {*seen, "valid"} else error
    except Exception:
        return None  # a task need not expect that there are no rows
    if found and isinstance(loader, InMemory):
        try:
            check_labels(task, _Asked(loader.dataset.columns))
        except UserError as error:
            found = error
    return found


def check_data(training: Training, log: Callable[[str], None] = lambda line: None) -> None:
    """Raise for invalid labels of data in memory, and for memory banks smaller than the data set.

    Rows that lack every input of the evaluated model are logged.

    Streamed data are checked batch by batch, as they are read.
    """
    if isinstance(training.data, InMemory):
        label_check(training)(training.data.dataset.columns)
    for name, loader in (("validation", training.validation), ("test", training.test)):
        if isinstance(loader, InMemory):
            try:
                check_labels(training.task, _Asked(loader.dataset.columns))
                training.task.check_all(loader.dataset.columns)
            except UserError as error:
                raise error.within(name) from None
    check_banks(training)
    for line in without_inputs(training):
        log(line)


def check_evaluation(training: Training) -> None:
    """Raise for columns that the evaluation reads and that validation or test data lack, by abstract evaluation.

    Also for a label that is an input of the evaluated model, if that is trained.
    """
    model = training.networks[training.evaluate]
    read = _read(training, training.evaluate) if training.evaluate in training.trained else set()
    for task in (training.task, *training.task.tasks.values()):
        if task.label in read:
            raise UserError(
                f"{training.evaluate!r} reads {task.label!r}, the label of task {task.name!r}, as an input: it would "
                "be evaluated on what it is to predict; leave the input out"
            )
    for name, loader in (("validation", training.validation), ("test", training.test)):
        if not isinstance(loader, InMemory | GrainLoader):  # others may add columns, or change shapes
            continue
        spec = batch_spec(loader.dataset, loader.batch_size)
        spec |= {"valid": jax.ShapeDtypeStruct((loader.batch_size,), np.dtype(bool))}
        try:
            _, _, rows = jax.eval_shape(
                lambda v, batch: measure(training.task, predict(model, v, batch), batch),
                training.shapes(training.evaluate)[0],
                spec,
            )
            each = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(rows)) / loader.batch_size
            check_size(training.task, each * loader.dataset.size)
        except KeyError as error:
            columns, outputs = choices(loader.dataset.spec), choices(training.outputs(training.evaluate))
            raise UserError(
                f"{name} data: the evaluation of {training.evaluate!r} reads {error.args[0]!r}, which is neither a "
                f"column ({columns}) nor an output of the model ({outputs})"
            ) from None
        except UserError as error:
            raise error.within(f"{name} data") from error.__cause__


def lacking(training: Training) -> list[tuple[str, int | None, str]]:
    """Return (modality, rows that lack it, term) for each term that trains a model on zeros in place of a modality.

    The number of rows is None if it is unknown, as after `where`.
    """
    rows, found = training.data.dataset, []
    for modality in [k.removeprefix("present.") for k in rows.spec if k.startswith("present.")]:
        count = rows.counts.get(f"present.{modality}")
        missing = None if count is None else training.data.size - count
        if missing == 0:
            continue
        readers = {n for n in training.models if modality in _modalities(training, n)}
        for scope, paths in training.reads.items():
            if f"batch.present.{modality}" not in paths and readers & {p.partition(".")[0] for p in paths}:
                found.append((modality, missing, scope))
    return found


def without_inputs(training: Training, read: bool = True) -> list[str]:
    """Describe the validation and test rows that lack every input of the evaluated model, which is scored on zeros.

    Args:
        training: the training.
        read: read the rows, of data in memory; without, only what is known about them counts.
    """
    name, lines = training.evaluate, []
    if not any(k.startswith("present.") for x in (training.validation, training.test) for k in x.dataset.spec):
        return lines
    seen = sorted(_modalities(training, name))
    for split, loader in (("validation", training.validation), ("test", training.test)):
        if not isinstance(loader, InMemory | GrainLoader):  # others may add columns
            continue
        rows, missing = loader.dataset, 0
        if not seen or any(f"present.{m}" not in rows.spec for m in seen):
            continue
        if len(seen) == 1 and f"present.{seen[0]}" in rows.counts:
            missing = loader.size - rows.counts[f"present.{seen[0]}"]
        elif read and isinstance(loader, InMemory):
            missing = int(np.sum(~np.logical_or.reduce([rows.columns[f"present.{m}"] for m in seen])))
        if missing:
            of = f"{choices(seen)}, every input of {name!r}"
            lines.append(
                f"{missing:,} of {loader.size:,} {split} rows lack {of}: it is scored on zeros there, but refuses them "
                "when it is used; leave them out with .where"
            )
    return lines


def _read(training, name) -> set[str]:
    """Return the columns that a model's outputs depend on."""
    _, batch = used_inputs(training.run(name), *training.shapes(name))
    return {k for k, used in batch.items() if used}


def _modalities(training, name) -> set[str]:
    """Return the modalities, and other columns, that a model's outputs depend on."""
    return {k.partition(".")[0] for k in _read(training, name)} - {"present", "example_id", "valid"}


def checked_batches(training: Training, loader: Loader, rows: str) -> Iterator[Mapping[str, Any]]:
    """Iterate over a streamed loader's evaluation batches, and check their labels.

    Raises:
        UserError: an invalid label; names the rows of the batch.
    """
    for i, batch in enumerate(loader.eval_batches()):
        try:
            check_labels(training.task, _Asked(batch))
        except UserError as error:
            raise error.within(f"{rows}, rows from {i * loader.batch_size} on") from None
        yield batch


class _Asked(dict):
    """Columns that remember the names asked for, and the last one, which a check raises about."""

    last: str | None = None
    names: frozenset[str] = frozenset()

    def __getitem__(self, name):
        self.last, self.names = name, self.names | {name}
        return super().__getitem__(name)

    def __contains__(self, name):
        self.last, self.names = name, self.names | {name}
        return super().__contains__(name)

    def get(self, name, default=None):
        return self[name] if name in self else default  # noqa: SIM401  this is `get`
