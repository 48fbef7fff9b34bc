"""Scores of a model over a whole split: means over rows, and metrics that need all rows at once."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from mmkd_jax.core.task import Task
from mmkd_jax.errors import UserError
from mmkd_jax.training.memory import readable

LARGEST = 4 * 2**30  # bytes of rows on the host


def evaluate(
    task: Task,
    measure: Callable,
    variables: Any,
    batches: Iterable,
    rows: str = "the data",
    check_interrupt: Callable[[], None] = lambda: None,
) -> dict[str, np.ndarray]:
    """Compute a task's scores of a model over batches that contain each row once.

    Sums and counts are accumulated in float64, then divided: NaN without rows. `task.whole` reads all valid rows, in
    the order of `example_id`, or as they come without one: no metric depends on the batch size.

    Args:
        task: the task.
        measure: `(variables, batch) -> (metrics, broken, rows)`, as from `tasks.measure`.
        variables: variables of the model.
        batches: the batches.
        rows: names the rows in errors, such as "validation".
        check_interrupt: called after each batch; may raise Interrupted.

    Raises:
        UserError: an output that a metric reads has no value in some rows; names output and row. More
            rows than fit in memory; `scores` and `whole` return a metric of the same name.
    """
    sums: dict[str, list[Any]] = {}
    broken: dict[str, list[np.ndarray]] = {}
    kept: list[dict[str, Any]] = []
    size = 0

    def add(result):
        nonlocal size
        metrics, wrong, columns = jax.device_get(result)
        for name, pair in metrics.items():  # in float64, as float32 no longer counts beyond 2²⁴
            s, count = sums.get(name, (0.0, 0.0))
            sums[name] = [s + np.float64(pair[0]), count + np.float64(pair[1])]
        for name, x in wrong.items():
            broken.setdefault(name, []).append(x)
        if columns:
            valid = columns.pop("batch.valid")
            kept.append(jax.tree.map(lambda x: x[valid], columns))
            size += sum(x.nbytes for x in jax.tree.leaves(kept[-1]))
            check_size(task, size, f"{rows}: ")

    before = None
    for batch in batches:
        now = measure(variables, batch)
        if before is not None:
            add(before)  # at most one batch ahead, so that signals are handled between batches
        before = now
        check_interrupt()
    if before is None:
        raise UserError(f"{rows} has no batches: check its loader")
    add(before)
    for name, each in broken.items():
        if len(found := np.flatnonzero(np.concatenate(each))):
            raise UserError(
                f"output {name!r} is not finite in row {found[0]} of {rows} ({len(found)} such rows), which the "
                "metrics would score as a prediction: check these rows and the model's variables"
            )
    with np.errstate(invalid="ignore"):
        means = {k: np.asarray(np.divide(s, count)) for k, (s, count) in sums.items()}  # NaN of no rows
    scores = dict(task.scores(means))
    whole = task.whole(_in_order(kept) if kept else {})
    if twice := sorted(scores.keys() & whole.keys()):
        raise UserError(f"task {task.name!r}: its `scores` and its `whole` both return {twice[0]!r}: rename one")
    return scores | {k: np.asarray(v, np.float64) for k, v in whole.items()}


def check_size(task: Task, size: float | int, before: str = "") -> None:
    """Raise if the rows that a task reads at once, `size` bytes, are more than fit in memory."""
    if size > LARGEST:
        raise UserError(
            f"{before}task {task.name!r} reads {', '.join(task.rows)} of all rows at once, more than "
            f"{readable(LARGEST)}: evaluate on fewer rows"
        )


def _in_order(kept: list[dict[str, Any]]) -> Mapping[str, Any]:
    """Concatenate the columns of batches, in the order of `example_id`."""
    columns = jax.tree.map(lambda *x: np.concatenate(x), *kept)
    if "batch.example_id" not in columns:
        return columns
    order = np.argsort(columns["batch.example_id"], kind="stable")
    return jax.tree.map(lambda x: x[order], columns)
