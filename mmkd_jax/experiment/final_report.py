"""What a run leaves for its reader: a table for each task, figures, examples, and the experiment's own report.

Errors are found before the first step. After training, nothing here raises: a figure that cannot be drawn is left out
with a log message, and the same command draws it once the cause is fixed.
"""

import inspect
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mmkd_jax import files
from mmkd_jax.deploy import measuring
from mmkd_jax.errors import UserError, choices
from mmkd_jax.reporting import report
from mmkd_jax.training import class_names
from mmkd_jax.training.training import Training

Trainings = Mapping[str, Training]
Log = Callable[[str], None]


def check_report(trainings: Trainings, baseline: str | Mapping[str, str] | None, hook: Callable | None) -> None:
    """Raise for a baseline that is not one of the trainings, and for a report function with the wrong signature."""
    pairs = baseline if isinstance(baseline, Mapping) else {} if baseline is None else {baseline: baseline}
    for name, other in pairs.items():
        if wrong := {name, other} - set(trainings):
            raise UserError(f"baseline {choices(wrong)!r} is not one of the trainings: {choices(trainings)}")
        tasks = [trainings[n].task for n in (name, other)]
        if (tasks[0].name, tasks[0].metric) != (tasks[1].name, tasks[1].metric):
            raise UserError(f"baseline {other!r} of {name!r} has another task: {tasks[1].name}, not {tasks[0].name}")
    if hook is None:
        return
    try:
        inspect.signature(hook).bind(None, None, None)
    except ValueError:  # a builtin without a signature
        return
    except TypeError as error:
        raise UserError(f"report must take (config, results, folder): {error}") from None


def write_report(
    folder: pathlib.Path,
    title: str,
    trainings: Trainings,
    results: Mapping[str, Sequence[Mapping[str, Any]]],
    baseline: str | Mapping[str, str] | None,
    variables: Callable[[str], Mapping[str, Any]],
    notes: Callable[[Mapping[str, Sequence[Mapping[str, Any]]]], Sequence[str]],
    log: Log,
) -> None:
    """Write the tables, the figures, and validation examples with each training's predictions.

    Trainings of one task share a table and its figures. Of several tasks, each has a folder in `tables/`, named
    after its first training. Of a training that is the same for all seeds, one result is shown. The costs of `mmkd
    measure` are columns of the tables.

    Args:
        folder: the run folder.
        title: title of the tables.
        trainings: name -> Training.
        results: name -> one result per seed.
        baseline: training that the others of its task are compared with, or training -> its baseline.
        variables: name of a training -> its final variables, by model.
        notes: `(results) -> lines` that are printed below a table.
        log: called with a message for each figure that is skipped.
    """
    tasks = by_task(trainings, results)
    costs = measuring.known(folder)
    places = {names[0]: folder if len(tasks) == 1 else folder / "tables" / names[0] for names in tasks}
    tables = []
    for names in tasks:
        task, metric, share = (getattr(trainings[names[0]].task, k) for k in ("name", "metric", "share"))
        own = {n: results[n] for n in names}
        shown = {n: seeds[:1] if trainings[n].same_for_all_seeds else seeds for n, seeds in own.items()}
        first = trainings[names[0]]
        classes, groups = first.classes, class_names.groups(first.task, first.classes)
        place = places[names[0]]
        heading = title if len(tasks) == 1 else f"{title}: {task}"
        mapped = isinstance(baseline, Mapping)
        against = report.baselines(baseline, own) if mapped else baseline if baseline in own else None
        tables.append(
            report.write(place, shown, metric, against, heading, classes, share, log, notes(own), costs, groups)
        )
    if len(tasks) > 1:
        for name in ("table.txt", "table.md"):
            files.write(folder / name, "\n".join(files.read(p / name) for p in places.values()))
        files.write(folder / "table.json", json.dumps({"tables": tables}, indent=1) + "\n")
    seen: dict[str, list[str]] = {}  # rows that several trainings are validated on are drawn once
    for name, training in trainings.items():
        rows = json.dumps([dict(training.validation.fingerprint)], sort_keys=True, default=repr)
        seen.setdefault(rows, []).append(name)
    for i, names in enumerate(seen.values()):
        path = folder / "figures" / ("examples.png" if i == 0 else f"examples_{names[0]}.png")
        report.drawn(path, lambda names=names, path=path: _examples(path, names, trainings, variables, log), log)


def by_task(trainings: Trainings, results: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[list[str]]:
    """Return names of trainings grouped by task: the same headline metric, scores and groups of rows."""
    groups: dict[Any, list[str]] = {}
    for name, training in trainings.items():
        task, first = training.task, results[name][0]
        sizes = tuple((k, len(v)) for k, v in first.get("per_class", {}).items())
        groups.setdefault((task.name, task.metric, task.share, frozenset(first), sizes), []).append(name)
    return list(groups.values())


def call_hook(hook: Callable, config: Any, results: Any, folder: pathlib.Path, log: Log) -> None:
    """Call the experiment's own report; a failure is logged, as the results are already written."""
    try:
        hook(config, results, folder)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        log(f"the experiment's report failed ({reason}); all results are in {folder}: the same command calls it again")


def _examples(path, names, trainings, variables, log):
    """Draw the first rows of validation with the predictions of trainings that are validated on them."""
    batch = {k: v[:8] for k, v in next(iter(trainings[names[0]].validation.eval_batches())).items()}
    inputs = [k for k in ("image", "audio") if k in batch]
    for name in [k for k in inputs if not _is_picture(batch[k])]:
        shape = list(np.shape(batch[name]))[1:]
        log(f"figure {path.name}: {name} {shape} is not a picture and is skipped")
        inputs.remove(name)
    if not inputs:
        return
    predictions = {}
    for name in names:
        training = trainings[name]
        final = variables(name).get(training.evaluate)
        if final is None and not training.trained:
            continue
        if final is None:
            log(f"figure {path.name}: predictions of {name!r} are skipped: {training.evaluate!r} is frozen")
            continue
        predict = jax.jit(
            lambda *x, training=training.merged: training.task.predict(training.run(training.evaluate)(*x))
        )
        predictions[name] = jax.device_get(predict(final, batch))
    rows = []
    for i in range(int(np.sum(batch["valid"]))):
        lines = [f"label {_caption(batch['label'][i])}"] if "label" in batch else []
        for name, found in predictions.items():
            of_tasks = {f"{name} {task}": p for task, p in found.items()} if isinstance(found, dict) else {name: found}
            lines += [f"{n} {_caption(p[i])}" for n, p in of_tasks.items()]
        rows.append({k: batch[k][i] for k in inputs} | {"caption": "\n".join(lines)})
    report.examples(rows, path)


def _caption(x) -> str:
    """Return a label or prediction as text; several classes by their numbers."""
    x = np.asarray(x)
    return ", ".join(map(str, np.flatnonzero(x))) or "none" if x.dtype == bool and x.ndim == 1 else str(x)


def _is_picture(x) -> bool:
    """Return whether rows are [h, w] or [h, w, c] with 1, 3 or 4 channels."""
    shape = np.shape(x)[1:]
    return len(shape) == 2 or (len(shape) == 3 and shape[-1] in (1, 3, 4))
