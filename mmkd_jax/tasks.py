"""Tasks: what is learned, how it is measured, and what a valid label is.

A further task (several labels, regression, tags) is one more function that returns a Task.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax import losses
from mmkd_jax.errors import UserError
from mmkd_jax.objective import Objective, term


class Task(NamedTuple):
    """What a model is trained for and measured by.

    Attributes:
        name: for people.
        metric: name of the headline metric; larger is better.
        objective: `(model, **options) -> Objective`: the task's own loss on a model's outputs.
        predict: `(outputs) -> predictions` [b, ...].
        metrics: `(outputs, batch) -> {name: (sum, count)}`, rows with `valid` False left out.
        check: `(columns) -> None`; refuses labels that the task cannot have.
    """

    name: str
    metric: str
    objective: Callable[..., Objective]
    predict: Callable[[Mapping[str, Any]], jax.Array]
    metrics: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, tuple[jax.Array, jax.Array]]]
    check: Callable[[Mapping[str, Any]], None]


def classification(classes: int, label: str = "label", logits: str = "logits") -> Task:
    """One of several classes; measured by accuracy, over all rows and in each class.

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

    def objective(model: str = "student", **options) -> Objective:
        return term(losses.cross_entropy, logits=f"{model}.{logits}", labels=f"batch.{label}", **options)

    def predict(outputs):
        return jnp.argmax(outputs[logits], -1)

    def metrics(outputs, batch):
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
        if label not in columns:
            raise UserError(f"classification needs a column {label!r}; there are: {', '.join(sorted(columns))}")
        found = np.asarray(columns[label])
        if not np.issubdtype(found.dtype, np.integer):
            raise UserError(f"labels {label!r} are {found.dtype}; classification needs integers 0 … {classes - 1}")
        wrong = np.flatnonzero((found < 0) | (found >= classes))
        if len(wrong):
            raise UserError(
                f"label {found[wrong[0]]} in row {wrong[0]} is out of range ({len(wrong)} such rows): "
                f"labels {label!r} must be 0 … {classes - 1}"
            )

    return Task("classification", "accuracy", objective, predict, metrics, check)
