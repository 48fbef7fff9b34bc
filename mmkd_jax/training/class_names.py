"""Classes of a model and of its data, matched by name; and what logits were trained for."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mmkd_jax.core.dependence import used_inputs
from mmkd_jax.core.model import Model
from mmkd_jax.core.task import Task
from mmkd_jax.errors import UserError, shown


def order(labels: Sequence[str], classes: Sequence[str]) -> list[int] | None:
    """Return the index of each class of the data among those of the model; None if one of them is missing.

    Args:
        labels: names of the model's classes, in the order of its logits.
        classes: names of the data's classes, in the order of its labels.

    Example:
        >>> order(("joy", "fear", "anger"), ("anger", "joy")), order(("joy", "fear"), ("anger", "joy"))
        ([2, 0], None)
    """
    unique = len(set(labels)) == len(labels) and len(set(classes)) == len(classes)
    return [list(labels).index(c) for c in classes] if unique and set(classes) <= set(labels) else None


def matched(model: Model, labels: Sequence[str], classes: Sequence[str]) -> Model:
    """Return a model whose `class_outputs` are of the data's classes, in their order, if both have names.

    Other classes are left out, so that a softmax of the logits is over the data's classes. A model with the same
    classes in the same order keeps its outputs; likewise one that lacks a class, see `check`.

    Raises:
        UserError: the logits have another number of classes than the model has names, an output of which classes are
            left out is patched, or the model is a CRF with other tags, when it is applied.
    """
    if not labels:
        return model
    index = _moved(labels, classes)
    inverse = None if index is None else np.argsort(index)

    def apply(variables, batch, ctx, patch):
        own = dict(patch)
        for name in [n for n in model.class_outputs if n in own and index is not None]:
            if len(classes) < len(labels):
                raise UserError(f"patch {name!r} has {_listed(classes)}, the model's output {_listed(labels)}")
            own[name] = own[name][..., inverse]
        outputs, state = model.apply(variables, batch, ctx, own)
        if index is not None and "transitions" in outputs:
            raise UserError(
                f"the tags of a CRF are {_listed(labels)}, those of the data {_listed(classes)}: its transitions "
                "cannot be reordered; number the data's labels as the CRF does"
            )
        per_class = {n: outputs[n] for n in model.class_outputs if n in outputs}
        for name, x in per_class.items():
            if (width := x.shape[-1]) != len(labels):
                raise UserError(f"{len(labels)} labels, {_listed(labels)}, for {name} of {width} classes")
        return outputs if index is None else {**outputs, **{n: x[..., index] for n, x in per_class.items()}}, state

    return model._replace(apply=apply)


def described(labels: Sequence[str], classes: Sequence[str]) -> str:
    """Describe how logits are matched with the data's classes, after a comma; empty if they are as they were.

    Example:
        >>> described(("joy", "fear", "anger"), ("anger", "joy"))
        ', logits of anger, joy (of 3 classes)'
    """
    if _moved(labels, classes) is None:
        return ""
    return f", logits of {_listed(classes)} (of {len(labels)} classes)"


def check(name: str, labels: Sequence[str], classes: Sequence[str], before: str = "") -> None:
    """Raise if the logits of a model cannot be matched with the data's classes; `before` starts the message.

    Raises:
        UserError: a class of the data is not one of the model, or a name occurs twice; the message has both lists.
    """
    if order(labels, classes) is None:
        remedy = "rename them (Frozen(…, labels=…)), or use another output"
        lists = f"the classes of {name!r} are {_listed(labels)}, those of the data {_listed(classes)}"
        raise UserError(f"{before}{lists}: the data's must be among the model's: {remedy}")


_OF_CLASSES = ("class", "level", "answer", "tag")
"""Groups of metrics that are a task's classes."""


def of_task(task: Task, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a task's classes: its own, or those of the data if its labels are the column "label".

    Args:
        task: the task.
        classes: names of the data's classes; empty if unknown.

    Example:
        >>> from mmkd_jax import tasks
        >>> of_task(tasks.classification(2), ("cat", "dog")), of_task(tasks.classification(2, "mood"), ("cat", "dog"))
        (('cat', 'dog'), ())
    """
    return tuple(task.classes or (classes if task.label == "label" else ()))


def groups(task: Task, classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the names of the groups of a task's metrics "METRIC by GROUP": of several tasks, by "TASK GROUP"."""
    own = dict(task.groups)
    for name, one in task.tasks.items():
        named = {**dict.fromkeys(_OF_CLASSES, of_task(one, classes)), **one.groups}
        own |= {f"{name} {group}": names for group, names in named.items()}
    return own


def check_one_order(classes: Sequence[str], task: Task, splits: Mapping[str, Sequence[str]]) -> None:
    """Raise if the names of the training data's classes are not those of the task and of the other splits.

    Args:
        classes: names of the classes of the training data; empty if unknown.
        task: the task, with its names or its number of classes; those of several tasks are compared, too.
        splits: what has names -> names.
    """
    own = {task.name: task, **task.tasks}
    for name, one in own.items():
        if classes and one.size and one.label == "label" and len(classes) != one.size:
            raise UserError(
                f"the training data has names of {len(classes)} classes ({_listed(classes)}), task {name!r} has "
                f"{one.size} classes: give each class a name, in the order of the labels"
            )
    named = {f"task {name!r}": one.classes for name, one in own.items() if one.label == "label"}
    for name, others in {**named, **splits}.items():
        if classes and others and tuple(others) != tuple(classes):
            raise UserError(
                f"the classes of the training data are {', '.join(classes)}, those of {name} {', '.join(others)}: give "
                "their labels one order"
            )


def check_problem(name: str, problem: str, task: str, before: str = "") -> None:
    """Raise if logits of independent classes, exclusive classes, levels or a regression are read as one of the others.

    Args:
        name: name of the model.
        problem: what its logits were trained for; empty if unknown.
        task: the problem whose logits the task reads; empty for others.
        before: start of the message.

    Raises:
        UserError: the task's classes exclude each other and those of the model do not, or the other way round; or the
            task's logits are thresholds between levels and those of the model are not.
    """
    known = {
        "single_label_classification": ("exclude each other", "has one label per row", "softmax"),
        "multi_label_classification": ("are independent", "has several labels per row", "sigmoid"),
        "visual_questions": ("are independent", "has a score for each answer", "sigmoid"),
        "ordinal": ("are thresholds", "has a logit for each threshold between its levels", "sigmoid"),
    }
    if task in known and problem and known.get(problem, ("",))[0] != known[task][0]:
        is_one = f"{known[problem][0]} ({problem})" if problem in known else f"are a {problem}"
        _, has, function = known[task]
        raise UserError(
            f"{before}the logits of {name!r} {is_one}, the task {has}: use another output, or another "
            f'task; or, if a {function} of them is meant, its Model with `_replace(problem="")`'
        )


def check_read(training: Any, paths: Collection[str], before: str = "") -> None:
    """Raise if logits that a training reads are of other classes or another problem than its data and task.

    Args:
        training: the training.
        paths: paths of outputs that it reads, "MODEL.OUTPUT".
        before: start of the message.

    Raises:
        UserError: see `check` and `check_problem`; or the order of the classes of an output is unknown: it is not one
            of the `class_outputs`, or of a model that takes variables, such as a classifier, of another one.
    """
    classes = training.classes
    for name in training.models:
        role = _role(training, name)
        read = [p.removeprefix(f"{name}.") for p in paths if p.startswith(f"{name}.")]
        if others := [x for x in read if x.endswith("logits") and x not in role.model.class_outputs]:
            _check_declared(training, name, others, before)
        if not any(f"{x}.".startswith(f"{output}.") for x in read for output in role.model.class_outputs):
            continue
        check_problem(name, role.model.problem, training.task.logits_of or training.task.problem, before)
        if role.labels and classes:
            check(name, role.labels, classes, before)
        elif role.model.needs:
            _check_borrowed(training, name, before)


def read_by_task(training: Any) -> set[str]:
    """Return the paths that the task reads of the evaluated model, "MODEL.OUTPUT".

    Where names of classes decide nothing, it is taken to be the logits, without tracing the model.
    """
    name, role = training.evaluate, _role(training, training.evaluate)
    if not (role.labels and training.classes) or role.labels == training.classes:
        return {f"{name}.logits"}
    outputs = training.outputs(name)
    try:
        (used,) = used_inputs(training.task.predict, outputs)
    except KeyError:  # an output that the model lacks, which the evaluation names
        return {f"{name}.logits"}
    return {f"{name}.{n}" for n in outputs if any(jax.tree.leaves(used[n]))}


def _role(training, name):
    """The role of a model; that of the averaged model for a moving average."""
    role = training.models[name]
    return training.models[role.of] if hasattr(role, "of") else role


def _check_declared(training, name, read, before):
    """Raise if an output that is not one of the `class_outputs` seems to have the model's classes in another order."""
    labels, classes = _role(training, name).labels, training.classes
    if not (labels and classes) or labels == classes:
        return
    outputs = training.outputs(name)
    for output in [x for x in read if getattr(outputs.get(x), "shape", ())[-1:] == (len(labels),)]:
        raise UserError(
            f"{before}{name}.{output} has {len(labels)} values, as many as the model has classes, but its order is "
            f"unknown, and the data's is another: {_listed(classes)}: add it to `class_outputs` of the Model, with "
            "_replace; or rename it if it is of other classes"
        )


def _check_borrowed(training, name, before):
    """Raise if a model without names, which takes another one's variables, may have classes in another order."""
    classes = training.classes
    for other, role in training.models.items():
        labels = getattr(role, "labels", ())
        if other != name and labels and classes and labels != classes:
            raise UserError(
                f"{before}{name!r} takes variables of another model, such as its classifier; the classes of {other!r} "
                f"are {_listed(labels)}, those of the data {_listed(classes)}: name the classes of its logits, in "
                "their order, as in Trained(…, labels=…)"
            )


def _moved(labels, classes):
    """The column of the logits for each class of the data; None if they stay as they are, or cannot be matched."""
    columns = order(labels, classes) if labels and classes else None
    return None if columns is None or columns == list(range(len(labels))) else np.asarray(columns, np.int32)


def _listed(names):
    text = ", ".join(map(shown, names[:20]))
    return f"{text}, … ({len(names)})" if len(names) > 20 else text
