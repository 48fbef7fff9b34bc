"""Regression of one number."""

from typing import Any

import numpy as np

from mmkd_jax import losses
from mmkd_jax.core.objective import Objective, term
from mmkd_jax.core.task import Task
from mmkd_jax.errors import UserError
from mmkd_jax.models.output_heads import LinearHead
from mmkd_jax.tasks import _labels

_FAR = 1e5
"""Distance of a mean from 0, in standard deviations, from which r of float32 values is rounding noise."""


def regression(label: str = "label", output: str = "prediction", groups: tuple[str, int] | None = None) -> Task:
    """Scalar regression, measured by Pearson's r, the mean absolute error, and accuracy and F1 of the sign.

    Formula: r = cov(ŷ, y) / (σ_ŷ σ_y); MAE = mean |ŷ − y|; accuracy and F1 of "ŷ > 0" for "y > 0", where y ≠ 0

    Scores are computed in float64 from all rows at once. r is 0 for constant predictions; accuracy and F1 are NaN for
    labels of one sign, such as prices.

    Args:
        label: name of the labels in the batch, [b], floats.
        output: name of the model's output, [b].
        groups: name of the batch column with each row's group index, and the number of groups; r and MAE are also
            measured within each group.

    Example:
        >>> rows = {"batch.label": np.array([-1.0, 0.5, 2.0, 0.0]), "prediction": np.array([-2.0, -1.0, 3.0, 0.0])}
        >>> {k: round(v, 3) for k, v in regression().whole(rows).items()}
        {'pearson': 0.926, 'mae': 0.875, 'accuracy': 0.667, 'f1': 0.667}
    """

    def objective(model: str = "student", **options) -> Objective:
        return term(losses.mse, predictions=f"{model}.{output}", targets=f"batch.{label}", **options)

    def whole(rows):
        x, y = (np.asarray(rows[name], np.float64) for name in (output, f"batch.{label}"))
        positive, truth = x[y != 0] > 0, y[y != 0] > 0
        hits, wrong, right = np.sum(positive & truth), np.sum(positive != truth), np.sum(positive == truth)
        two_signs = truth.any() and not truth.all()
        found: dict[str, Any] = {"pearson": _pearson(x, y), "mae": _mean_error(x, y)}
        found |= {"accuracy": float(right / len(truth)) if two_signs else np.nan}
        found |= {"f1": float(2 * hits / (2 * hits + wrong)) if two_signs else np.nan}
        if groups is not None:
            name, count = groups
            each = [rows[f"batch.{name}"] == i for i in range(count)]
            found |= {f"pearson by {name}": np.array([_pearson(x[m], y[m]) for m in each])}
            found |= {f"mae by {name}": np.array([_mean_error(x[m], y[m]) for m in each])}
        return found

    def check(columns):
        valid = np.asarray(columns.get("valid", True))
        labels = _labels.column(columns, label, "regression")
        _labels.check_kind(columns, label, np.floating, "regression needs floats")
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
        if abs(mean) > _FAR * spread:
            raise UserError(
                f"labels {label!r} lie around {mean:g} with a spread of {spread:g}, too far from 0 for Pearson's r in "
                "single precision: subtract their mean"
            )

    predict = lambda outputs: outputs[output]  # noqa: E731
    head = LinearHead({output: 0})
    rows = (output, f"batch.{label}", *([f"batch.{groups[0]}"] if groups else []))
    return Task(
        "regression",
        "pearson",
        objective,
        predict,
        lambda outputs, batch: {},
        check,
        share=False,
        check_all=check_all,
        problem="regression",
        rows=rows,
        whole=whole,
        head=head,
        label=label,
    )


def _mean_error(x, y):
    return float(np.abs(x - y).mean()) if len(x) else np.nan


def _pearson(x, y):
    """Return Pearson's r: 0 of constant predictions; NaN of constant labels, those far from 0, and no rows."""
    if not len(x):
        return np.nan
    a, b = x - x.mean(), y - y.mean()
    if np.sqrt(np.mean(b * b)) * _FAR < max(abs(y.mean()), np.finfo(np.float64).tiny):
        return np.nan
    across = np.sum(a * a)
    varies = np.sqrt(across / len(x)) * _FAR >= max(abs(x.mean()), np.finfo(np.float64).tiny)
    return float(np.sum(a * b) / np.sqrt(across * np.sum(b * b))) if varies else 0.0
