"""Students in a run folder: what each training leaves for use, without the experiment and its data."""

import hashlib
import pathlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import numpy as np

from mmkd_jax import files, variables_file
from mmkd_jax.data.preprocess import Preprocessing, saved
from mmkd_jax.deploy import folder as student_folder
from mmkd_jax.deploy import module, program
from mmkd_jax.deploy.exported import Exported
from mmkd_jax.errors import UserError, choices, shown
from mmkd_jax.training import class_names
from mmkd_jax.training.roles import Frozen
from mmkd_jax.training.training import Training


def write(
    directory: pathlib.Path,
    experiment: str,
    training: Training,
    export: Callable[[], Exported | Exception],
    result: Mapping[str, Any],
    log: files.Log,
) -> None:
    """Write the student of a finished training and seed, unless the same is there; a failure is recorded and logged.

    Args:
        directory: folder of the training and seed.
        experiment: name of the experiment.
        training: the training.
        export: returns the exported program of its evaluated model, or why it has none; called if it is needed.
        result: the result of this seed.
        log: called with messages for the user.
    """
    name, place = training.evaluate, directory / "student"
    if not training.trained or _is_there(place, training, result, log):
        return
    try:
        if isinstance(training.models[name], Frozen):
            raise UserError(f"the evaluated model {name!r} is frozen")
        if isinstance(exported := export(), Exception):
            raise exported
        _write(place, experiment, training, exported, result, directory / "variables.safetensors")
    except Exception as error:  # a model that JAX cannot export must not lose the training
        if isinstance(error, UserError) and isinstance(error.__cause__, OSError):
            raise  # such as a full disk
        lines = str(error).strip().splitlines()
        reason = shown(lines[0] if lines else "", 300)
        reason = reason if isinstance(error, UserError) else f"{type(error).__name__}: {reason}"
        student_folder.write_failure(place, f"model {name!r} cannot be exported ({reason})")
        log(f"{result['training']}: no student: model {name!r} cannot be exported ({reason})")


def _is_there(place: pathlib.Path, training: Training, result: Mapping[str, Any], log: files.Log) -> bool:
    """Return whether an undamaged student of these variables, steps, classes and task is there."""
    if not place.exists() or (place / student_folder.FAILED).exists():
        return False
    try:
        signature = student_folder.verify(place)
    except UserError as error:
        log(f"{error}; it is written again")
        return False
    if signature.get("trained") != result["variables"]:
        return False
    described = saved.encoded(_steps(training, signature["inputs"]))[saved.FILE]
    found = {"declared steps": signature["preprocess"]["sha256"], "names of the classes": signature["classes"]}
    found |= {"task": {k: x for k, x in signature["task"].items() if k != "logits"}}
    now = {"declared steps": hashlib.sha256(described).hexdigest(), "names of the classes": _classes(training)}
    now |= {"task": _task(training)}
    changed = [name for name in now if found[name] != now[name]]
    if changed:
        log(f"{place} has other {choices(changed)} than the experiment: it is written again")
    return not changed


def _steps(training: Training, inputs: Collection[str]) -> list[Preprocessing]:
    return [x for x in training.preprocessing if {*x.columns} & {*inputs}]


def _classes(training: Training) -> list[str]:
    """Return the names of the classes; none of several tasks, each of which has its own."""
    return [] if training.task.tasks else [*training.classes]


def _task(training: Training) -> dict[str, Any]:
    task = training.task
    of_each = {
        n: {"problem": t.problem, "classes": [*class_names.of_task(t, training.classes)]} for n, t in task.tasks.items()
    }
    return {"name": task.name, "problem": task.problem, "metric": task.metric} | ({"tasks": of_each} if of_each else {})


def _write(place, experiment, training, exported, result, path) -> None:
    name = training.evaluate
    values = variables_file.read_flat(path, result["variables"])
    like = {name: training.shapes(name)[0]}
    leaves = [jax.tree_util.keystr(p, simple=True, separator="/") for p, _ in jax.tree.leaves_with_path(like)]
    variables: dict[str, np.ndarray] = dict(
        zip(program.flat(like[name]), (values[leaf] for leaf in leaves), strict=True)
    )
    student_folder.write(
        place,
        exported,
        variables,
        about={
            "experiment": experiment,
            "training": result["training"],
            "model": name,
            "seed": result["seed"],
            "trained": result["variables"],
        },
        task=_task(training),
        classes=_classes(training),
        preprocess=_steps(training, exported.inputs),
        module=module.described(training.networks[name]),
    )
