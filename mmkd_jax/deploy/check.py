"""Comparison of an exported student with the run that it comes from: its outputs, and the metric of its task."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from mmkd_jax import tasks
from mmkd_jax.core.task import Task
from mmkd_jax.deploy.exported import predictions_of
from mmkd_jax.errors import UserError
from mmkd_jax.training.scores import evaluate

FLOAT32, HALF = 1e-5, 2e-2
"""Largest difference of an output, as a share of the largest value, by the precision of the model."""
_SAME_METRIC = 1e-3
"""Largest difference of the task's metric: 0.1 points."""


class Comparison(NamedTuple):
    """An exported student beside the original.

    Attributes:
        error: largest difference of an output, as a share of its largest value.
        agreement: share of the rows with the same prediction.
        metric: metric of the exported student on the test split.
        expected: metric that the run recorded.
        rows: number of rows.
    """

    error: float
    agreement: float
    metric: float
    expected: float
    rows: int


def compared(
    task: Task,
    batches: Callable[[], Iterable[Mapping[str, Any]]],
    original: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    exported: Iterable[Mapping[str, np.ndarray]],
    expected: float,
) -> Comparison:
    """Compare the outputs of an exported student with those of the original, and compute the metric from them.

    Args:
        task: the task.
        batches: `() -> batches` of the test split; rows with `valid` False are padding.
        original: `(batch) -> outputs` of the original.
        exported: outputs of the exported student on each batch.
        expected: metric that the run recorded.

    Raises:
        UserError: an output of the exported student is not finite, or its metric needs an output that it lacks.
    """
    apart: dict[str, float] = {}
    largest: dict[str, float] = {}
    count, same = 0, 0

    def pairs():
        nonlocal count, same
        for batch, outputs in zip(batches(), exported, strict=True):
            rows = len(next(iter(batch.values())))
            valid = np.asarray(batch.get("valid", np.ones(rows, bool)))
            reference = {k: np.asarray(x) for k, x in original(batch).items()}
            count += int(valid.sum())
            equal = [(x == outputs[k]).reshape(rows, -1).all(-1) for k, x in predictions_of(reference).items()]
            same += int(np.logical_and.reduce(equal)[valid].sum())
            for name, x in reference.items():
                if jnp.issubdtype(x.dtype, jnp.inexact) and valid.any():
                    x, y = x[valid].astype(np.float64), outputs[name][valid].astype(np.float64)
                    difference = np.where(x == y, 0, np.abs(x - y))  # equal infinities
                    apart[name] = max(apart.get(name, 0.0), float(difference.max(initial=0)))
                    finite = np.abs(x[np.isfinite(x)])
                    largest[name] = max(largest.get(name, 0.0), float(finite.max(initial=0)))
            yield {k: jnp.asarray(x) for k, x in outputs.items()}, dict(batch)

    try:
        scores = evaluate(task, lambda _, pair: tasks.measure(task, *pair), None, pairs(), "test")
    except KeyError as error:
        raise UserError(
            f"the metrics of task {task.name!r} read {error.args[0]!r}, which predictions do not need and the student "
            "therefore does not return: let the task's `predict` read it"
        ) from None
    error = max((apart[k] / max(largest[k], 1e-30) for k in apart), default=0.0)
    return Comparison(error, same / max(count, 1), float(scores[task.metric]), expected, count)


def check_same(found: Comparison, allowed: float, task: Task) -> None:
    """Raise if an exported student differs from the original by more than rounding."""
    if not found.error <= allowed:
        raise UserError(
            f"the exported student differs from the run by {found.error:.1e} of the largest output on {found.rows:,} "
            f"test rows; allowed are {allowed:g}: nothing is written"
        )
    if not abs(found.metric - found.expected) <= _SAME_METRIC * (1 if task.share else max(1.0, abs(found.expected))):
        raise UserError(
            f"{task.metric} of the exported student is {found.metric:.4f} on the test split, and the run recorded "
            f"{found.expected:.4f}: the data or the experiment has changed since; nothing is written"
        )


def check_fall(found: Comparison, tolerance: float, task: Task) -> None:
    """Raise if the metric of a quantized student is lower than the run's by more than a number of points."""
    points = 100 * (found.expected - found.metric)
    if not points <= tolerance:
        raise UserError(
            f"int8 lowers {task.metric} by {points:.1f} points ({number(found.expected, task)} → "
            f"{number(found.metric, task)}), more than --tolerance {tolerance:g}: train it further with "
            "mmkd.deploy.qat(model), or accept more"
        )


def number(value: float, task: Task) -> str:
    """Format the metric of a task.

    Example:
        >>> number(0.6464, tasks.classification(2))
        '64.64 %'
    """
    return f"{100 * value:.2f} %" if task.share else f"{value:.4f}"


def line(found: Comparison, task: Task, where: str, allowed: float | None) -> str:
    """Describe a comparison in one line."""
    limit = f" (allowed {allowed:g})" if allowed is not None else ""
    same = "" if task.problem == "regression" else f"{found.agreement:.2%} of the predictions are the same, "
    return (
        f"{found.rows:,} test rows {where}: outputs differ by {found.error:.1e} of the largest{limit}, "
        f"{same}{task.metric} {number(found.metric, task)} (in the run {number(found.expected, task)})"
    )
