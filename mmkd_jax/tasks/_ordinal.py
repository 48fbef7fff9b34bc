"""Ordinal classification: classes in an order, such as grades or stars."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax import losses, metrics
from mmkd_jax.core.objective import Objective, term
from mmkd_jax.core.task import Task
from mmkd_jax.errors import UserError
from mmkd_jax.models.output_heads import LinearHead, RankHead
from mmkd_jax.tasks import _labels

Form = Literal["coral", "corn", "expected"]


def ordinal(levels: int, form: Form = "coral", label: str = "label", logits: str = "logits") -> Task:
    """Ordinal classification, measured by quadratic kappa, mean absolute error and accuracy.

    Formula: P(y > k) = σ(z_k) ("coral") or Π_{j ≤ k} σ(z_j) ("corn"); the prediction is the number of k with
    P(y > k) > 1/2. "expected": the mean of softmax(z) over the levels, rounded half to even

    The forms "coral" and "corn" have logits of the thresholds between levels, one fewer than levels, which
    `losses.binary_kl` distills; "expected" has the logits of a classification, trained by cross-entropy.

    Args:
        levels: K, number of levels.
        form: what the logits are, see above.
        label: name of the levels in the batch, integers [b] in 0 … K − 1.
        logits: name of the model's output, [b, K − 1]; [b, K] for "expected".

    Source: Cao et al., Rank consistent ordinal regression for neural networks, 2020, https://arxiv.org/abs/1901.07884;
        Shi et al., Deep Neural Networks for Rank-Consistent Ordinal Regression Based On Conditional Probabilities,
        2021, https://arxiv.org/abs/2111.08851

    Example:
        >>> task = ordinal(3)
        >>> task.predict({"logits": jnp.array([[2.0, -1.0], [3.0, 1.0]])}).tolist()
        [1, 2]
        >>> rows = {"predictions": np.array([0, 1, 2, 1]), "batch.label": np.array([0, 1, 2, 2])}
        >>> task.whole(rows)["kappa"]
        0.8
    """
    _labels.check_count("ordinal", "levels", levels, 2)
    if form not in get_args(Form):
        raise UserError(f"ordinal: form={form!r}; expected one of {', '.join(map(repr, get_args(Form)))}")
    width = levels if form == "expected" else levels - 1

    def objective(model: str = "student", **options) -> Objective:
        z, y = f"{model}.{logits}", f"batch.{label}"
        if form == "expected":
            return term(losses.cross_entropy, logits=z, labels=y, **options)
        return term(losses.ordinal_coral if form == "coral" else losses.ordinal_corn, logits=z, levels=y, **options)

    def predict(outputs):
        z = outputs[logits]
        if z.shape[-1] != width:
            raise UserError(
                f"{logits!r} has shape {list(z.shape)}; {levels} levels in the form {form!r} need {width} logits: end "
                "the model with models.head_for(task)"
            )
        z = z.astype(jnp.float32)
        if form == "expected":
            expected = jax.nn.softmax(z) @ jnp.arange(levels, dtype=jnp.float32)
            return jnp.round(expected).astype(jnp.int32)
        log_above = jax.nn.log_sigmoid(z) if form == "coral" else jnp.cumsum(jax.nn.log_sigmoid(z), -1)
        return jnp.sum(log_above > -jnp.log(2.0), -1).astype(jnp.int32)

    def means(outputs, batch):
        labels, found = batch[label], predict(outputs)
        valid = batch.get("valid", jnp.ones(labels.shape, bool))
        count = jnp.sum(valid).astype(jnp.float32)
        gap = jnp.where(valid, jnp.abs(found - labels), 0)
        return {
            "accuracy": (jnp.sum(valid & (gap == 0)).astype(jnp.float32), count),
            "mae": (jnp.sum(gap).astype(jnp.float32), count),
        }

    def whole(rows):
        answers = rows[f"batch.{label}"], rows["predictions"], levels
        counts = metrics.class_counts(*answers)
        return {
            "kappa": metrics.quadratic_kappa(*answers),
            "macro f1": metrics.mean_over(counts.f1).value,
            "recall by level": counts.recall,
            "f1 by level": counts.f1,
            "support by level": counts.support,
            "confusion matrix": metrics.confusion_matrix(*answers),
        }

    def check(columns):
        values = _labels.column(columns, label, "ordinal")
        _labels.check_kind(columns, label, np.integer, f"ordinal needs integers 0 … {levels - 1}")
        wrong = (values < 0) | (values >= levels)
        _labels.refuse(columns, label, values, wrong, f"levels must be 0 … {levels - 1}")

    def check_all(columns):
        values = np.asarray(columns[label])
        if len(values) and (values == values[0]).all():
            raise UserError(f"all rows have the level {values[0]} by {label!r}: kappa is undefined on this split")

    return Task(
        "ordinal",
        "kappa",
        objective,
        predict,
        means,
        check,
        share=False,
        check_all=check_all,
        problem="ordinal",
        rows=("predictions", f"batch.{label}"),
        whole=whole,
        head=RankHead(levels, logits) if form == "coral" else LinearHead({logits: width}),
        size=int(levels),
        label=label,
        logits_of="single_label_classification" if form == "expected" else "",
    )
