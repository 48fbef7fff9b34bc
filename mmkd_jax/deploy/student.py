"""A trained student in use: raw inputs in, classes with probabilities out."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Shaped

from mmkd_jax import metrics
from mmkd_jax.data.preprocess import Preprocessing
from mmkd_jax.deploy import columns, folder
from mmkd_jax.deploy.exported import predictions_of
from mmkd_jax.errors import UserError, choices


class Predictions(NamedTuple):
    """Predictions of a student, one row for each row of the inputs.

    Attributes:
        prediction: class names [n] for a classification with known classes, tuples of them if several may apply; names
            of the tags of the tokens [n, l] for a tagging, "" where a token has none; otherwise class indices or values
            [n, ...]; of several tasks, a dict by name of the task.
        probabilities: probability of each class [n, c], for a classification; None for other tasks and for several.
        outputs: name -> output of the model [n, ...].
    """

    prediction: Any
    probabilities: Float[np.ndarray, "n c"] | None
    outputs: dict[str, Shaped[np.ndarray, "n ..."]]


@dataclasses.dataclass(frozen=True, eq=False)
class Student:
    """A trained model in use, from `load`.

    Attributes:
        inputs: column that the model reads -> shape and dtype of one row.
        outputs: name -> shape and dtype of one row.
        classes: names of the classes, in the order of the logits; empty if unknown.
        task: name, problem and metric of the task, the output with its logits, and of several tasks `tasks`: name ->
            problem and names of the classes.
        preprocess: steps from raw inputs to columns.
        batch: number of rows of each call; None is any.
        call: `(columns) -> outputs`, compiled for each number of rows.
        signature: all of `signature.json`.
    """

    inputs: Mapping[str, jax.ShapeDtypeStruct]
    outputs: Mapping[str, jax.ShapeDtypeStruct]
    classes: tuple[str, ...]
    task: Mapping[str, Any]
    preprocess: tuple[Preprocessing, ...]
    batch: int | None
    call: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dataclasses.field(repr=False)
    signature: Mapping[str, Any] = dataclasses.field(repr=False)

    @property
    def required(self) -> tuple[str, ...]:
        """Names of the inputs that `predict` needs: raw inputs with declared steps, and columns without."""
        return columns.required(self.inputs, self.preprocess)

    @property
    def kinds(self) -> dict[str, str]:
        """What the values of each required input are: "text", "number", "path", or "array" for a column itself."""
        return columns.kinds(self.inputs, self.preprocess)

    def predict(self, inputs: Mapping[str, Any], batch_size: int = 64, start: int = 0) -> Predictions:
        """Predict rows from raw inputs, or from columns.

        Args:
            inputs: name -> a list with the raw value of each row, such as paths, texts or arrays, which goes through
                the declared steps; or an array [n, ...] that is the column itself, in its dtype. None, in a list or as
                a whole, is a missing modality.
            batch_size: rows of one call, which bounds the memory; fewer are padded to a power of two.
            start: number of the first row in messages.

        Returns:
            The predictions, in the order of the rows.

        Raises:
            UserError: an input is missing, unknown or cannot be read; a column has another shape or dtype; or an output
                is not finite.

        Example:
            >>> row, task = jax.ShapeDtypeStruct((), "float32"), {"problem": "regression", "logits": ""}
            >>> outputs, twice = {"prediction": row}, lambda batch: {"prediction": 2 * batch["x"]}
            >>> student = Student({"x": row}, outputs, (), task, (), None, twice, {})
            >>> student.predict({"x": [1, 2.5]}).prediction.tolist()
            [2.0, 5.0]
        """
        if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise UserError(f"batch_size is {batch_size!r}; expected a number of rows, at least 1")
        count = columns.count(inputs, self.inputs, self.preprocess)
        most = self.batch or int(batch_size)
        found: list[dict[str, np.ndarray]] = []
        for first in range(0, count, most):
            rows = min(most, count - first)
            some = {k: None if x is None else x[first : first + rows] for k, x in inputs.items()}
            made = columns.made(some, rows, self.inputs, self.preprocess, start + first)
            found.append(self._called(made, rows, most, start + first))
        empty = {n: np.zeros((0, *s.shape), s.dtype) for n, s in self.outputs.items()}
        outputs = {n: np.concatenate([x[n] for x in found]) if found else empty[n] for n in self.outputs}
        predicted = {n: outputs.pop(n) for n in predictions_of(self.outputs)}
        problem, each = self.task["problem"], self.task.get("tasks", {})
        if "prediction" in predicted:
            prediction = _named(predicted["prediction"], problem, self.classes)
        else:
            of_tasks = {n.removeprefix("prediction."): x for n, x in predicted.items()}
            unknown = {"problem": "", "classes": ()}
            prediction = {n: _named(x, **each.get(n, unknown)) for n, x in of_tasks.items()}
        logits = outputs.get(self.task["logits"])
        if logits is None:
            return Predictions(prediction, None, outputs)
        independent = problem == "multi_label_classification"
        p = metrics.sigmoid(np.asarray(logits, np.float64)).astype(np.float32) if independent else softmax(logits)
        return Predictions(prediction, p, outputs)

    def _called(self, batch, rows, most, first) -> dict[str, np.ndarray]:
        padded = self.batch or min(1 << (rows - 1).bit_length(), most)
        batch = {k: np.concatenate([x, np.zeros((padded - rows, *x.shape[1:]), x.dtype)]) for k, x in batch.items()}
        outputs = {n: np.asarray(x)[:rows] for n, x in jax.device_get(self.call(batch)).items()}
        for name, x in outputs.items():
            if not jax.numpy.issubdtype(x.dtype, jax.numpy.inexact) or not x.size:
                continue
            y = x.reshape(rows, -1).astype(np.float32)
            broken = np.flatnonzero(np.any(np.isnan(y) | (y == np.inf), 1) | np.all(y == -np.inf, 1))
            if len(broken):
                raise UserError(
                    f"output {name!r} is not finite in row {first + broken[0]} ({len(broken)} such rows from row "
                    f"{first} on): check its inputs"
                )
        return outputs


def _named(prediction, problem, classes) -> Any:
    """Return predictions of a task with the names of its classes, if it has any."""
    if classes and problem in ("single_label_classification", "ordinal", "visual_questions"):
        return np.array(classes)[prediction]
    if classes and problem == "token_classification":
        return np.array((*classes, ""))[prediction]  # a token without a tag has -1
    if classes and problem == "multi_label_classification":
        names = [tuple(c for c, x in zip(classes, row, strict=True) if x) for row in np.asarray(prediction)]
        return np.fromiter(names, object, len(names))
    return prediction


def load(path: str | os.PathLike, training: str | None = None, seed: int = 0) -> Student:
    """Load a trained student, with the preprocessing of its inputs.

    Neither the experiment, nor the data, nor the class of the model is needed.

    Args:
        path: folder of a run; or that of a student, without `training`.
        training: name of the training.
        seed: which of its seeds.

    Returns:
        The student, whose `predict` takes raw inputs.

    Raises:
        UserError: the run, training or seed does not exist, a file is damaged or edited, or this version or machine
            cannot run it.

    Example:
        >>> import tempfile
        >>> from mmkd_jax.deploy.program import export_function
        >>> row, place = jax.ShapeDtypeStruct((), "float32"), pathlib.Path(tempfile.mkdtemp()) / "student"
        >>> twice = export_function(lambda v, batch: {"prediction": v["w"] * batch["x"]}, {"w": row}, {"x": row})
        >>> about = {"experiment": "mine", "training": "twice", "model": "twice", "seed": 0}
        >>> task = {"name": "regression", "problem": "regression", "metric": "pearson"}
        >>> folder.write(place, twice, {"w": np.array(2, np.float32)}, about=about, task=task)
        >>> load(place).predict({"x": [1, 2.5]}).prediction.tolist()
        [2.0, 5.0]
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise UserError(f"seed is {seed!r}; expected an integer")
    place = folder.find(pathlib.Path(path), training, int(seed))
    return of_artifact(place, folder.read(place))


def of_artifact(place: pathlib.Path, artifact: folder.Artifact) -> Student:
    """Return the student of a folder that was read.

    Raises:
        UserError: this machine cannot run it.
    """
    signature, program = artifact.signature, artifact.program
    platforms, own = signature["platforms"], jax.export.default_export_platform()
    if own not in program.platforms:
        raise UserError(f"{place} runs on {choices(platforms)}, and this machine is {own}: run it on one of them")
    variables = jax.device_put(artifact.variables)
    return Student(
        inputs={k: folder.row_of(x) for k, x in signature["inputs"].items()},
        outputs={n: folder.row_of(x) for n, x in signature["outputs"].items()},
        classes=tuple(signature["classes"]),
        task=signature["task"],
        preprocess=artifact.preprocess,
        batch=signature["batch"],
        call=functools.partial(jax.jit(program.call), variables),
        signature=signature,
    )


def softmax(logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
    """Return the softmax of logits [n, c], in float32.

    Example:
        >>> softmax(np.array([[0.0, 0.0], [1000.0, 0.0]]))
        array([[0.5, 0.5],
               [1. , 0. ]], dtype=float32)
    """
    values = logits.astype(np.float32)
    if not values.size:
        return values
    values = np.exp(values - values.max(-1, keepdims=True))
    return values / values.sum(-1, keepdims=True)
