"""Classes of a model and of its data, matched by name; and what logits were trained for."""

from collections.abc import Sequence

import numpy as np

from mmkd_jax.core.model import Model
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
    """Return a model whose `logits` are those of the data's classes, in their order, if both have names.

    Logits of other classes are left out, so that a softmax is over the data's classes. A model with the same classes in
    the same order keeps its logits; likewise one that lacks a class, see `check`.

    Raises:
        UserError: the logits have another number of classes than the model has names, when it is applied.
    """
    if not labels:
        return model
    index = _moved(labels, classes)

    def apply(variables, batch, ctx, patch):
        own = {k: x for k, x in patch.items() if k != "logits"} if index is not None else patch
        outputs, state = model.apply(variables, batch, ctx, own)
        if "logits" not in outputs:
            return outputs, state
        if (width := outputs["logits"].shape[-1]) != len(labels):
            raise UserError(f"{len(labels)} labels, {_listed(labels)}, for logits of {width} classes")
        if index is None:
            return outputs, state
        return {**outputs, "logits": patch.get("logits", outputs["logits"][..., index])}, state

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


def check_problem(name: str, problem: str, task: str, before: str = "") -> None:
    """Raise if logits of independent classes, or of a regression, are read as those of exclusive classes.

    Args:
        name: name of the model.
        problem: what its logits were trained for; empty if unknown.
        task: the task's problem; empty for others.
        before: start of the message.

    Raises:
        UserError: the task's classes exclude each other, those of the model do not.
    """
    if task == "single_label_classification" and problem not in ("", task):
        is_one = "are a regression" if problem == "regression" else f"are independent ({problem})"
        raise UserError(
            f"{before}the logits of {name!r} {is_one}, the task has one label per row: use another output, or another "
            'task; or, if a softmax of them is meant, its Model with `_replace(problem="")`'
        )


def _moved(labels, classes):
    """The column of the logits for each class of the data; None if they stay as they are, or cannot be matched."""
    columns = order(labels, classes) if labels and classes else None
    return None if columns is None or columns == list(range(len(labels))) else np.asarray(columns, np.int32)


def _listed(names):
    text = ", ".join(map(shown, names[:20]))
    return f"{text}, … ({len(names)})" if len(names) > 20 else text
