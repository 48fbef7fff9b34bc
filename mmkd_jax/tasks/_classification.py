"""Single-label classification."""

import jax.numpy as jnp
import numpy as np

from mmkd_jax import losses, metrics
from mmkd_jax.core.objective import Objective, term
from mmkd_jax.core.task import Task
from mmkd_jax.errors import UserError
from mmkd_jax.losses.logits.topk import TopK
from mmkd_jax.models.output_heads import LinearHead
from mmkd_jax.numeric import top_class
from mmkd_jax.tasks import _labels

LARGEST = 100
"""Classes of the largest confusion matrix that is kept."""


def classification(classes: int, label: str = "label", logits: str = "logits") -> Task:
    """Single-label classification, measured by accuracy, and by precision, recall and F1 of the classes.

    These are the numbers of `metrics.classification_report`: what is undefined is NaN, and left out of the averages.

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
    _labels.check_count("classification", "classes", classes)

    def objective(model: str = "student", **options) -> Objective:
        return term(losses.cross_entropy, logits=f"{model}.{logits}", labels=f"batch.{label}", **options)

    def predict(outputs):
        return top_class(outputs[logits])

    def means(outputs, batch):
        if not isinstance(found := outputs[logits], TopK) and found.shape[-1] != classes:
            raise UserError(
                f"{logits!r} has shape {list(found.shape)}, for {classes} classes: its head is of another task, or the "
                "classes of model and data need names: Frozen(…, labels=(…)), from_columns(…, classes=(…))"
            )
        labels = batch[label]
        valid = batch.get("valid", jnp.ones(labels.shape, bool))
        right = (predict(outputs) == labels) & valid
        return {"accuracy": (jnp.sum(right).astype(jnp.float32), jnp.sum(valid).astype(jnp.float32))}

    def whole(rows):
        answers = rows[f"batch.{label}"], rows["predictions"], classes
        counts = metrics.class_counts(*answers)
        by_class = {"precision": counts.precision, "recall": counts.recall, "f1": counts.f1}
        found = {f"macro {k}": metrics.mean_over(x).value for k, x in by_class.items()}
        found |= {f"weighted {k}": metrics.mean_over(by_class[k], counts.support).value for k in ("precision", "f1")}
        found |= {f"{k} by class": x for k, x in {**by_class, "support": counts.support}.items()}
        return found | ({"confusion matrix": metrics.confusion_matrix(*answers)} if classes <= LARGEST else {})

    def check(columns):
        valid = np.asarray(columns.get("valid", True))
        if label not in columns:
            raise UserError(
                f"classification needs a column {label!r}; there are: {', '.join(sorted(columns))}. Labels are "
                "integers: columns of words are removed when texts are tokenized"
            )
        values = _labels.column(columns, label, "classification")
        _labels.check_kind(columns, label, np.integer, f"classification needs integers 0 … {classes - 1}")
        wrong = np.flatnonzero(((values < 0) | (values >= classes)) & valid)
        if len(wrong):
            raise UserError(
                f"label {values[wrong[0]]} in row {wrong[0]} is out of range ({len(wrong)} such rows): "
                f"labels {label!r} must be 0 … {classes - 1}"
            )

    return Task(
        "classification",
        "accuracy",
        objective,
        predict,
        means,
        check,
        problem="single_label_classification",
        rows=("predictions", f"batch.{label}"),
        whole=whole,
        head=LinearHead({logits: classes}),
        size=int(classes),
        label=label,
    )
