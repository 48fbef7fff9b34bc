"""Where losses and methods train: models, batches, and the objectives that go through ten steps together."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mmkd_jax.core.model import Model
from mmkd_jax.core.objective import Objective


class Stage(NamedTuple):
    """Ten steps of several objectives side by side.

    Attributes:
        models: name -> Model.
        batches: number of steps -> that many batches.
        parts: name in the catalogue (", VARIANT" may follow) -> an objective, small enough beside the others.
        trained: names of the trained models.
        ema: name -> (source, decay).
        rate: of plain gradient descent.
        sometimes_zero: names of terms that may be 0 in all ten steps.
    """

    models: Mapping[str, Model]
    batches: Callable[[int], Any]
    parts: Mapping[str, Objective]
    trained: tuple[str, ...] = ("student",)
    ema: Mapping[str, tuple[str, float]] = {}
    rate: float = 0.01
    sometimes_zero: tuple[str, ...] = ()
