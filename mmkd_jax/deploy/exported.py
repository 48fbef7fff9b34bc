"""An exported program with the shapes of its inputs and outputs, and the names of its predictions."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax


class Exported(NamedTuple):
    """An exported program `(variables, batch) -> outputs`, both flat dicts.

    Attributes:
        program: the serialized `jax.export.Exported`.
        inputs: column -> shape and dtype of one row; only columns that an output depends on.
        outputs: name -> shape and dtype of one row.
        batch: number of rows of each call; None is any.
        platforms: platforms that it runs on.
        logits: name of the output whose softmax or sigmoid are the probabilities; empty without probabilities.
        operations: FLOPs for one row, as of `training.operations.flops`.
    """

    program: bytes
    inputs: dict[str, jax.ShapeDtypeStruct]
    outputs: dict[str, jax.ShapeDtypeStruct]
    batch: int | None
    platforms: tuple[str, ...]
    logits: str
    operations: int


def named_predictions(predictions: Any) -> dict[str, Any]:
    """Name the predictions of a task: "prediction", or "prediction.TASK" of several.

    Example:
        >>> named_predictions([1]), named_predictions({"topic": [1], "mood": [0.5]})
        ({'prediction': [1]}, {'prediction.topic': [1], 'prediction.mood': [0.5]})
    """
    if isinstance(predictions, Mapping):
        return {f"prediction.{n}": x for n, x in predictions.items()}
    return {"prediction": predictions}


def predictions_of(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs that are predictions, by name; beside those of several tasks, "prediction" is another output.

    Example:
        >>> predictions_of({"prediction": 0.5, "logits": 2})
        {'prediction': 0.5}
        >>> predictions_of({"prediction": 0.5, "prediction.mood": 0.5})
        {'prediction.mood': 0.5}
    """
    several = {n: x for n, x in outputs.items() if n.startswith("prediction.")}
    return several or {n: x for n, x in outputs.items() if n == "prediction"}
