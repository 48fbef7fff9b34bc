"""Regression of one number."""

import jax.numpy as jnp
import numpy as np

from mmkd_jax import losses
from mmkd_jax.core.objective import Objective, term
from mmkd_jax.core.task import Task
from mmkd_jax.errors import UserError
from mmkd_jax.models.output_heads import LinearHead


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
    head = LinearHead({output: 0})
    return Task(
        "regression", "pearson", objective, predict, metrics, check, scores, False, check_all, "regression", head=head
    )
