"""Several tasks of one model, each with labels in some or all rows."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax.core.objective import Objective, combine, masks
from mmkd_jax.core.task import Task
from mmkd_jax.errors import UserError, choices
from mmkd_jax.models.output_heads import Heads
from mmkd_jax.tasks import _labels


def multi_task(tasks: Mapping[str, Task], headline: str, where: Mapping[str, str] | None = None) -> Task:
    """Several tasks of one model, such as a topic and a sentiment, each with its outputs and labels.

    Formula: loss = Σ_i mean loss of task i over the rows with its labels

    The losses are separate terms, so that a gradient scheme such as `gradients.pcgrad` can weigh the tasks. A metric M
    of the task N is named "N M"; predictions are by name of the task. Labels in rows outside `where` are not read.

    Args:
        tasks: name -> task; each with separate columns and outputs, such as `classification(8, "topic", "topic")`.
        headline: the task whose metric decides which step is best.
        where: name of a task -> bool column, True in rows that have its labels; other tasks have labels in all rows.

    Source: Caruana, Multitask Learning, 1997, https://doi.org/10.1023/A:1007379606734

    Example:
        >>> from mmkd_jax.tasks import classification, regression
        >>> both = {"topic": classification(8, "topic", "topic"), "mood": regression("mood", "mood")}
        >>> multi_task(both, "topic", where={"mood": "has_mood"}).metric
        'topic accuracy'
    """
    where = dict(where or {})
    if wrong := [n for n in tasks if not n.isidentifier()]:
        raise UserError(f"multi_task: a task is named {wrong[0]!r}; expected a word without blanks")
    if headline not in tasks or len(tasks) < 2:
        raise UserError(f"multi_task: headline={headline!r}; expected one of at least two tasks: {choices(tasks)}")
    if unknown := sorted(set(where) - set(tasks)):
        raise UserError(f"multi_task: where names {unknown[0]!r}; tasks are: {choices(tasks)}")
    first = tasks[headline]

    def of(name, columns):
        """The columns as a task sees them: only rows with its labels are valid."""
        if name not in where:
            return columns
        return {**columns, "valid": columns.get("valid", True) & columns[where[name]]}

    def grouped(name, metric):
        kind, by, group = metric.partition(" by ")
        return f"{kind} by {name} {group}" if by else f"{name} {metric}"

    def objective(model: str = "student", **options) -> Objective:
        rows = options.pop("where", None)
        return combine(
            **{n: t.objective(model, where=masks(rows, where.get(n)) or None, **options) for n, t in tasks.items()}
        )

    def means(outputs, batch):
        valid = batch.get("valid", jnp.ones(len(next(iter(batch.values()))), bool))
        seen = {n: of(n, {**batch, "valid": valid}) for n in tasks}
        return {f"{n} {k}": x for n, t in tasks.items() for k, x in t.metrics(outputs, seen[n]).items()}

    def scores(found):
        of_task = {n: {k.removeprefix(f"{n} "): x for k, x in found.items() if k.startswith(f"{n} ")} for n in tasks}
        return {grouped(n, k): x for n, t in tasks.items() for k, x in t.scores(of_task[n]).items()}

    def predict(outputs):
        return {n: t.predict(outputs) for n, t in tasks.items()}

    def whole(rows):
        found = {}
        for name, task in tasks.items():
            own = {k: rows[k][name] if k == "predictions" else rows[k] for k in task.rows}
            if name in where:
                chosen = rows[f"batch.{where[name]}"]
                own = jax.tree.map(lambda x, chosen=chosen: x[chosen], own)
            found |= {grouped(name, k): x for k, x in task.whole(own).items()}
        return found

    def check(columns):
        for name, column in where.items():
            values = _labels.column(columns, column, f"multi_task ({name})")
            if values.dtype != bool:
                raise UserError(f"where={{{name!r}: {column!r}}} names {values.dtype}; expected a bool column")
        for name, task in tasks.items():
            try:
                task.check(of(name, columns))
            except UserError as error:
                raise error.within(name) from None

    def check_all(columns):
        for name, task in tasks.items():
            chosen = columns
            if name in where:
                rows = np.flatnonzero(np.asarray(columns[where[name]]))
                if not len(rows):
                    raise UserError(f"{name}: no row has a label by {where[name]!r}: its metrics are undefined here")
                chosen = {k: np.asarray(x)[rows] for k, x in columns.items()}
            task.check_all(chosen)

    read = [k for t in tasks.values() for k in t.rows] + [f"batch.{c}" for c in where.values()]
    heads = {n: t.head for n, t in tasks.items()}
    return Task(
        "multi_task",
        f"{headline} {first.metric}",
        objective,
        predict,
        means,
        check,
        scores,
        first.share,
        check_all,
        rows=tuple(dict.fromkeys(read)),
        whole=whole,
        head=None if None in heads.values() else Heads(heads),
        tasks=dict(tasks),
    )
