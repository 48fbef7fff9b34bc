"""Multi-label classification: each class applies or not, and may be unknown."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer

from mmkd_jax import metrics
from mmkd_jax.core.objective import Objective, term
from mmkd_jax.core.task import Task
from mmkd_jax.errors import UserError
from mmkd_jax.models.output_heads import LinearHead
from mmkd_jax.tasks import _labels
from mmkd_jax.tasks._masked import masked
from mmkd_jax.validation import validated

Labels = Bool[Array, "b c"] | Integer[Array, "b c"] | Float[Array, "b c"]


def _judged(labels):
    """Which labels are known: True and False, 1 and 0; not −1 and not NaN."""
    return labels >= 0 if labels.dtype != bool else labels | True


@validated
def _by_label(logits: Float[Array, "b c"], applies: Labels) -> Float[Array, "b c"]:
    return jax.nn.softplus(logits) - jnp.where(applies > 0, logits, 0)


def multi_label(
    classes: int, threshold: float | Sequence[float] = 0.5, label: str = "label", logits: str = "logits"
) -> Task:
    """Multi-label classification, measured by mean average precision (mAP), and F1 at a threshold.

    Formula: loss = mean over the known labels of −y log σ(z) − (1 − y) log σ(−z)

    A label that is −1 or NaN is not judged: it counts in neither loss nor metric. Distillation by `losses.binary_kl`
    has all classes, judged or not.

    Args:
        classes: number of classes.
        threshold: probability from which a class is predicted, 0 … 1; or one for each class, as from
            `metrics.best_thresholds` on validation data.
        label: name of the labels in the batch, [b, c]: bool, or 1, 0 and −1 (NaN in floats).
        logits: name of the model's output, [b, c].

    Source: Nam et al., Large-scale Multi-label Text Classification, 2014, https://arxiv.org/abs/1312.5419

    Example:
        >>> task, outputs = multi_label(2), {"logits": jnp.array([[2.0, -1.0], [-1.0, 1.0]])}
        >>> rows = {**outputs, "batch.label": np.array([[1, 0], [1, -1]]), "predictions": task.predict(outputs)}
        >>> found = task.whole(jax.device_get(rows))
        >>> found["mAP"], round(found["macro f1"], 3)
        (1.0, 0.667)
    """
    _labels.check_count("multi_label", "classes", classes)
    least = np.asarray(threshold, np.float64)
    least = least if least.ndim else np.full(classes, least)
    if least.shape != (classes,) or not np.all((least >= 0) & (least <= 1)):
        raise UserError(f"multi_label: threshold={threshold!r}; expected a probability, or one for each of {classes}")
    with np.errstate(divide="ignore"):
        bound = np.log(least) - np.log1p(-least)

    def objective(model: str = "student", **options) -> Objective:
        each = term(_by_label, logits=f"{model}.{logits}", applies=f"batch.{label}", **options)
        return masked(each, lambda outputs: _judged(outputs[f"batch.{label}"]))

    def predict(outputs):
        z = outputs[logits]
        if z.shape[-1] != classes:
            raise UserError(f"{logits!r} has shape {list(z.shape)}, for {classes} classes: its head is of another task")
        return z >= jnp.asarray(bound, z.dtype)[None]

    def means(outputs, batch):
        labels, answers = batch[label], predict(outputs)
        judged = _judged(labels)
        valid = batch.get("valid", jnp.ones(len(labels), bool)) & judged.any(-1)
        right = jnp.all((answers == (labels > 0)) | ~judged, -1) & valid  # of those that are judged
        return {"exact match": (jnp.sum(right).astype(jnp.float32), jnp.sum(valid).astype(jnp.float32))}

    def whole(rows):
        scores, labels = np.asarray(rows[logits], np.float64), rows[f"batch.{label}"]
        judged = np.asarray(_judged(labels))
        positive = (labels > 0) & judged
        counts = metrics.multi_label_counts(positive, rows["predictions"], judged)
        precision = metrics.mean_average_precision(positive, scores, judged)
        return {
            "mAP": precision.value,
            "micro AP": metrics.micro_average_precision(positive, scores, judged),
            "mean AUROC": metrics.mean_auroc(positive, scores, judged).value,
            "ranking AP": metrics.label_ranking_average_precision(positive, scores, judged).value,
            "macro f1": metrics.mean_over(counts.f1).value,
            "micro f1": float(counts.micro.f1[0]),
            "AP by class": precision.values,
            "precision by class": counts.precision,
            "recall by class": counts.recall,
            "f1 by class": counts.f1,
            "support by class": counts.support,
        }

    def check(columns):
        labels = _labels.column(columns, label, "multi_label", (classes,))
        if labels.dtype != bool and not np.issubdtype(labels.dtype, np.number):
            raise UserError(f"labels {label!r} are {labels.dtype}; multi_label needs booleans, or 1, 0 and −1")
        known = (labels == 0) | (labels == 1) | (labels == -1) | (labels != labels)
        _labels.refuse(columns, label, labels, ~known, "expected 1 (applies), 0 (does not) or −1 (not judged)")

    def check_all(columns):
        labels = np.asarray(columns[label])
        if not ((labels > 0) & _judged(labels)).any():
            raise UserError(f"no class applies to any row by {label!r}: mAP is undefined on this split")

    return Task(
        "multi_label",
        "mAP",
        objective,
        predict,
        means,
        check,
        check_all=check_all,
        problem="multi_label_classification",
        rows=("predictions", logits, f"batch.{label}"),
        whole=whole,
        head=LinearHead({logits: classes}),
        size=int(classes),
        label=label,
    )
