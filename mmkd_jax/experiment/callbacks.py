"""Callbacks of a run."""

import dataclasses
from collections.abc import Callable

from mmkd_jax.reporting.loggers import Log


@dataclasses.dataclass(frozen=True)
class Callbacks:
    """Callbacks of a run: messages, progress, and a stop request.

    Attributes:
        log: called with messages for the user.
        on_start: called with training, seed and number of steps, before the first.
        on_metrics: called with training, seed and a row of the learning curve.
        should_stop: polled during the run; True saves and raises `Interrupted`.
        loggers: called like on_metrics, by the primary process only, in addition to TensorBoard events; see
            `reporting.wandb`.
    """

    log: Callable[[str], None] = print
    on_start: Callable[[str, int, int], None] = lambda training, seed, steps: None
    on_metrics: Callable[[str, int, dict[str, float]], None] = lambda training, seed, row: None
    should_stop: Callable[[], bool] = lambda: False
    loggers: tuple[Log, ...] = ()
