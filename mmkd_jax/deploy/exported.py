"""An exported program with the shapes of its inputs and outputs."""

from typing import NamedTuple

import jax


class Exported(NamedTuple):
    """An exported program `(variables, batch) -> outputs`, both flat dicts.

    Attributes:
        program: the serialized `jax.export.Exported`.
        inputs: column -> shape and dtype of one row; only columns that an output depends on.
        outputs: name -> shape and dtype of one row.
        batch: number of rows of each call; None is any.
        platforms: platforms that it runs on.
        logits: name of the output whose softmax are the probabilities; empty without probabilities.
        operations: FLOPs for one row, as of `training.operations.flops`.
    """

    program: bytes
    inputs: dict[str, jax.ShapeDtypeStruct]
    outputs: dict[str, jax.ShapeDtypeStruct]
    batch: int | None
    platforms: tuple[str, ...]
    logits: str
    operations: int
