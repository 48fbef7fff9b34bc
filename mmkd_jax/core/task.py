"""What a task is: its loss, its predictions, its metrics and the check of its labels."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mmkd_jax.core.dependence import used_inputs
from mmkd_jax.core.objective import Objective
from mmkd_jax.losses.logits.topk import TopK


class Task(NamedTuple):
    """A task: objective, predictions, metrics and label check.

    Attributes:
        name: display name.
        metric: name of the headline metric; larger is better.
        objective: `(model, **options) -> Objective`: the task loss on a model's outputs.
        predict: `(outputs) -> predictions` [b, ...]; of several tasks, by name.
        metrics: `(outputs, batch) -> {name: (sum, count)}`, without rows whose `valid` is False.
        check: `(columns) -> None`; raises a UserError for missing or invalid labels, except in rows whose `valid` is
            False.
        scores: `(means) -> {name: value}`: final scores from the means of the metrics over all rows.
        share: whether the headline metric is a fraction of the rows, reported in percent.
        check_all: `(columns) -> None`; raises for statistics over all rows, which single batches do not have.
        problem: what predictions are: "single_label_classification" if its classes exclude each other,
            "multi_label_classification", "token_classification" if each token has a class, "ordinal",
            "visual_questions" or "regression"; empty for others.
        rows: what `whole` reads of each row: names of outputs of the evaluated model, `batch.COLUMN`, and
            "predictions", those of `predict`.
        whole: `({name: values of all valid rows, in the order of example_id}) -> {name: value}`: metrics that are no
            means over rows, such as AUROC; NumPy on the host. Added to the scores under names that those do not have.
        head: Linen module `embedding -> outputs by name` with the outputs that the task reads; None if no such head
            gives them. See `models.head_for`.
        classes: names of the classes, in the order of the labels, if the task knows them.
        size: number of classes, which the data's names must match; 0 without classes.
        groups: names of the groups of a metric "METRIC by GROUP", by GROUP, such as "type", if they are not the
            classes; empty for groups whose names nothing tells.
        label: column of the labels, which a trained model may not read; names of the data's classes are of the column
            "label". Empty for others.
        tasks: name -> task, of several tasks.
        logits_of: the problem whose logits the task reads, such as "single_label_classification" for an ordinal task
            that reads a softmax over the levels; empty if that is `problem`.
    """

    name: str
    metric: str
    objective: Callable[..., Objective]
    predict: Callable[[Mapping[str, Any]], Any]
    metrics: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, tuple[jax.Array, jax.Array]]]
    check: Callable[[Mapping[str, Any]], None]
    scores: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
    share: bool = True
    check_all: Callable[[Mapping[str, Any]], None] = lambda columns: None
    problem: str = ""
    rows: tuple[str, ...] = ()
    whole: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda rows: {}
    head: Any = None
    classes: tuple[str, ...] = ()
    size: int = 0
    groups: Mapping[str, tuple[str, ...]] = {}
    label: str = ""
    tasks: Mapping[str, "Task"] = {}
    logits_of: str = ""


def measure(
    task: Task, outputs: Mapping[str, Any], batch: Mapping[str, Any]
) -> tuple[dict[str, tuple[jax.Array, jax.Array]], dict[str, jax.Array], dict[str, Any]]:
    """Return the task's metrics on a batch, which rows of the outputs that they read have no value, and `task.rows`.

    A row has no value if it contains NaN or +inf, or −inf alone; single −inf, such as removed classes, are valid.

    Args:
        task: the task.
        outputs: name -> output of the evaluated model.
        batch: the batch; rows with `valid` False are padding.

    Returns:
        Metrics, name -> (sum, count); name of an output -> rows without a value, [b] bool; and if the task has `rows`,
        name -> values [b, ...], with "batch.valid" and, if the batch has it, "batch.example_id".

    Example:
        >>> from mmkd_jax.tasks import classification
        >>> outputs = {"logits": jnp.array([[0.0, 1.0], [jnp.nan, 1.0]])}
        >>> metrics, broken, _ = measure(classification(2), outputs, {"label": jnp.array([1, 1])})
        >>> float(metrics["accuracy"][0]), broken["logits"].tolist()
        (1.0, [False, True])
    """
    metrics = task.metrics(outputs, batch)
    rows = len(next(iter(batch.values())))
    valid = jnp.asarray(batch["valid"]) if "valid" in batch else jnp.ones(rows, bool)

    def has_no_value(x):
        if not jnp.issubdtype(x.dtype, jnp.inexact) or not x.size:
            return jnp.zeros(rows, bool)
        x = x.reshape(rows, -1) if x.ndim and len(x) == rows else x.reshape(1, -1)
        return jnp.any(jnp.isnan(x) | (x == jnp.inf), -1) | jnp.all(x == -jnp.inf, -1)

    def of_rows(outputs, batch):
        own = {"predictions": task.predict(outputs)} if "predictions" in task.rows else {}
        names = [n for n in task.rows if n not in own]
        return own | {n: batch[n.removeprefix("batch.")] if n.startswith("batch.") else outputs[n] for n in names}

    read, _ = used_inputs(lambda *found: (task.metrics(*found), of_rows(*found)), dict(outputs), dict(batch))
    broken = {}
    for name in sorted(outputs):
        if any(jax.tree.leaves(read[name])):
            x = outputs[name]._replace(tail=()) if isinstance(outputs[name], TopK) else outputs[name]  # may be −inf
            broken[name] = valid & functools.reduce(jnp.logical_or, map(has_no_value, jax.tree.leaves(x)))
    known = {"batch.valid": valid} | {f"batch.{k}": batch[k] for k in ("example_id",) if k in batch}
    return metrics, broken, of_rows(outputs, batch) | known if task.rows else {}
