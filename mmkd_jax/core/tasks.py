"""Tasks: objective, metrics and label checks of classification and regression.

To add a task (multi-label classification, tagging), write a function that returns a Task.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax import losses
from mmkd_jax.core.dependence import used_inputs
from mmkd_jax.core.objective import Objective, term
from mmkd_jax.errors import UserError
from mmkd_jax.losses.logits.topk import TopK
from mmkd_jax.numeric import top_class


class Task(NamedTuple):
    """A task: objective, predictions, metrics and label check.

    Attributes:
        name: display name.
        metric: name of the headline metric; larger is better.
        objective: `(model, **options) -> Objective`: the task loss on a model's outputs.
        predict: `(outputs) -> predictions` [b, ...].
        metrics: `(outputs, batch) -> {name: (sum, count)}`, without rows whose `valid` is False.
        check: `(columns) -> None`; raises a UserError for missing or invalid labels, except in rows whose `valid` is
            False.
        scores: `(means) -> {name: value}`: final scores from the means of the metrics over all rows.
        share: whether the headline metric is a fraction of the rows, reported in percent.
        check_all: `(columns) -> None`; raises for statistics over all rows, which single batches do not have.
        problem: "single_label_classification" if its classes exclude each other, or "regression"; empty for others.
        rows: what `whole` reads of each row: names of outputs of the evaluated model, and `batch.COLUMN`.
        whole: `({name: values of all valid rows, in the order of example_id}) -> {name: value}`: metrics that are no
            means over rows, such as AUROC; NumPy on the host. Added to the scores under names that those do not have.
    """

    name: str
    metric: str
    objective: Callable[..., Objective]
    predict: Callable[[Mapping[str, Any]], jax.Array]
    metrics: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, tuple[jax.Array, jax.Array]]]
    check: Callable[[Mapping[str, Any]], None]
    scores: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
    share: bool = True
    check_all: Callable[[Mapping[str, Any]], None] = lambda columns: None
    problem: str = ""
    rows: tuple[str, ...] = ()
    whole: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda rows: {}


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
        return {k: batch[k.removeprefix("batch.")] if k.startswith("batch.") else outputs[k] for k in task.rows}

    read, _ = used_inputs(lambda *found: (task.metrics(*found), of_rows(*found)), dict(outputs), dict(batch))
    broken = {}
    for name in sorted(outputs):
        if any(jax.tree.leaves(read[name])):
            x = outputs[name]._replace(tail=()) if isinstance(outputs[name], TopK) else outputs[name]  # may be −inf
            broken[name] = valid & functools.reduce(jnp.logical_or, map(has_no_value, jax.tree.leaves(x)))
    known = {"batch.valid": valid} | {f"batch.{k}": batch[k] for k in ("example_id",) if k in batch}
    return metrics, broken, of_rows(outputs, batch) | known if task.rows else {}


def classification(classes: int, label: str = "label", logits: str = "logits") -> Task:
    """Single-label classification, measured by accuracy over all rows and per class.

    Args:
        classes: number of classes.
        label: name of the labels in the batch.
        logits: name of the model's output.

    Example:
        >>> task = classification(2)
        >>> outputs = {"logits": jnp.array([[0.0, 1.0], [0.0, 1.0]])}
        >>> s, n = task.metrics(outputs, {"label": jnp.array([1, 0])})["accuracy"]
        >>> float(s), float(n)
        (1.0, 2.0)
    """
    if isinstance(classes, bool) or not isinstance(classes, int | np.integer) or classes < 1:
        raise UserError(f"classification: classes={classes!r}; expected their number")

    def objective(model: str = "student", **options) -> Objective:
        return term(losses.cross_entropy, logits=f"{model}.{logits}", labels=f"batch.{label}", **options)

    def predict(outputs):
        return top_class(outputs[logits])

    def metrics(outputs, batch):
        if not isinstance(found := outputs[logits], TopK) and found.shape[-1] != classes:
            raise UserError(
                f"{logits!r} has shape {list(found.shape)}, for {classes} classes: its head is of another task, or the "
                "classes of model and data need names: Frozen(…, labels=(…)), from_columns(…, classes=(…))"
            )
        labels = batch[label]
        valid = batch.get("valid", jnp.ones(labels.shape, bool))
        right = (predict(outputs) == labels) & valid
        per_class = (labels[:, None] == jnp.arange(classes)[None]) & valid[:, None]
        return {
            "accuracy": (jnp.sum(right).astype(jnp.float32), jnp.sum(valid).astype(jnp.float32)),
            "accuracy by class": (
                jnp.sum(per_class & right[:, None], 0).astype(jnp.float32),
                jnp.sum(per_class, 0).astype(jnp.float32),
            ),
        }

    def check(columns):
        valid = np.asarray(columns.get("valid", True))
        if label not in columns:
            raise UserError(
                f"classification needs a column {label!r}; there are: {', '.join(sorted(columns))}. Labels are "
                "integers: columns of words are removed when texts are tokenized"
            )
        values = np.asarray(columns[label])
        if not np.issubdtype(values.dtype, np.integer):
            raise UserError(f"labels {label!r} are {values.dtype}; classification needs integers 0 … {classes - 1}")
        wrong = np.flatnonzero(((values < 0) | (values >= classes)) & valid)
        if len(wrong):
            raise UserError(
                f"label {values[wrong[0]]} in row {wrong[0]} is out of range ({len(wrong)} such rows): "
                f"labels {label!r} must be 0 … {classes - 1}"
            )

    single = "single_label_classification"
    return Task("classification", "accuracy", objective, predict, metrics, check, problem=single)


def regression(label: str = "label", output: str = "prediction", groups: tuple[str, int] | None = None) -> Task:
    """Scalar regression, measured by Pearson's r, the mean absolute error, and accuracy and F1 of the sign.

    Formula: r = cov(ŷ, y) / (σ_ŷ σ_y); MAE = mean |ŷ − y|; accuracy and F1 of "ŷ > 0" for "y > 0", where y ≠ 0

    Args:
        label: name of the labels in the batch, [b], floats.
        output: name of the model's output, [b].
        groups: name of the batch column with each row's group index, and the number of groups; r and MAE are also
            measured within each group.

    Example:
        >>> task = regression()
        >>> batch = {"label": jnp.array([-1.0, 0.5, 2.0, 0.0])}
        >>> found = task.metrics({"prediction": jnp.array([-2.0, -1.0, 3.0, 0.0])}, batch)
        >>> scores = task.scores({k: np.float64(s) / np.float64(n) for k, (s, n) in found.items()})
        >>> {k: round(float(v), 3) for k, v in scores.items()}
        {'pearson': 0.926, 'mae': 0.875, 'accuracy': 0.667, 'f1': 0.667}
    """

    def objective(model: str = "student", **options) -> Objective:
        return term(losses.mse, predictions=f"{model}.{output}", targets=f"batch.{label}", **options)

    def metrics(outputs, batch):
        y, x = batch[label].astype(jnp.float32), outputs[output].astype(jnp.float32)
        valid = batch.get("valid", jnp.ones(y.shape, bool))
        signed = valid & (y != 0)

        def mean(value, where):
            zero = jnp.zeros((), jnp.float32)  # select instead of multiplying, so that NaN is masked
            return jnp.sum(jnp.where(where, value.astype(jnp.float32), zero)), jnp.sum(where.astype(jnp.float32))

        sums = {
            "accuracy": mean((x > 0) == (y > 0), signed),
            "hits": mean((x > 0) & (y > 0), signed),
            "wrong": mean((x > 0) != (y > 0), signed),
        }
        moments = {"x": x, "y": y, "xx": x * x, "yy": y * y, "xy": x * y, "mae": jnp.abs(x - y)}
        sums |= {k: mean(v, valid) for k, v in moments.items()}
        if groups is not None:
            name, count = groups
            member = valid[:, None] & (batch[name][:, None] == jnp.arange(count)[None])
            size, zero = jnp.sum(member.astype(jnp.float32), 0), jnp.zeros((), jnp.float32)
            inside = {k: jnp.sum(jnp.where(member, v[:, None], zero), 0) for k, v in moments.items()}
            sums |= {f"{k} by {name}": (x, size) for k, x in inside.items()}
            sums[f"rows by {name}"] = size, jnp.ones(count, jnp.float32)
        return sums

    def scores(means):
        values = {}
        for suffix in ("", *([f" by {groups[0]}"] if groups else [])):
            x, y, xx, yy, xy = (np.asarray(means[k + suffix]) for k in ("x", "y", "xx", "yy", "xy"))
            across, along = xx - x * x, yy - y * y
            varies = (across > 1e-6 * xx) & (along > 1e-6 * yy)  # r of constant predictions is 0
            spread = np.sqrt(np.where(varies, across * along, 1.0))
            nonempty = means["rows" + suffix] > 0 if suffix else True  # a group without rows has no score
            known = np.abs(y) <= 10 * np.sqrt(np.maximum(along, 0))  # else r is rounding noise
            r = np.where(varies, (xy - x * y) / spread, 0.0)
            values[f"pearson{suffix}"] = np.where(nonempty & known, r, np.nan)
            values[f"mae{suffix}"] = np.where(nonempty, means[f"mae{suffix}"], np.nan)
        hits, wrong = means["hits"], means["wrong"]
        f1 = 2 * hits / np.maximum(2 * hits + wrong, 1e-9)
        return values | {"accuracy": np.asarray(means["accuracy"]), "f1": np.asarray(f1)}

    def check(columns):
        valid = np.asarray(columns.get("valid", True))
        if label not in columns:
            raise UserError(f"regression needs a column {label!r}; there are: {', '.join(sorted(columns))}")
        labels = np.asarray(columns[label])
        if not np.issubdtype(labels.dtype, np.floating):
            raise UserError(f"labels {label!r} are {labels.dtype}; regression needs floats")
        if len(wrong := np.flatnonzero(~np.isfinite(labels) & valid)):
            raise UserError(f"label {labels[wrong[0]]} in row {wrong[0]} is not finite ({len(wrong)} such rows)")
        if groups is not None:
            name = groups[0]
            if name not in columns:
                raise UserError(
                    f"regression by {name!r} needs a column {name!r}; there are: {', '.join(sorted(columns))}"
                )
            member = np.asarray(columns[name])
            if not np.issubdtype(member.dtype, np.integer) or (((member < 0) | (member >= groups[1])) & valid).any():
                raise UserError(f"groups {name!r} must be integers 0 … {groups[1] - 1}")

    def check_all(columns):
        labels = np.asarray(columns[label], np.float64)
        mean, spread = labels.mean(), labels.std()
        if abs(mean) > 10 * spread:  # sums of squares in float32
            raise UserError(
                f"labels {label!r} lie around {mean:g} with a spread of {spread:g}, too far from 0 for Pearson's r in "
                "single precision: subtract their mean"
            )

    predict = lambda outputs: outputs[output]  # noqa: E731
    return Task("regression", "pearson", objective, predict, metrics, check, scores, False, check_all, "regression")
