"""Metric loggers: a log is a function `(training, seed, row) -> None`, with row a dict that contains "step"."""

import contextlib
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mmkd_jax import files
from mmkd_jax.errors import UserError

Log = Callable[[str, int, Mapping[str, float | int]], None]


@contextlib.contextmanager
def tensorboard(folder: pathlib.Path) -> Iterator[Log]:
    """TensorBoard logger, writing events to `folder/TRAINING/SEED`; resumed runs purge events after their checkpoint.

    Args:
        folder: root folder of the event files.
    """
    import tensorboardX

    writers: dict[tuple[str, int], Any] = {}

    def log(training: str, seed: int, row: Mapping[str, float | int]) -> None:
        if (training, seed) not in writers:
            with files.reported(folder):
                place = folder / training / str(seed)
                # file names have a resolution of one second, too coarse for a run that is resumed at once
                nth = f".{len(list(place.glob('*')))}"
                purge = int(row["step"])
                writers[training, seed] = tensorboardX.SummaryWriter(str(place), purge_step=purge, filename_suffix=nth)
        for name, value in row.items():
            if name != "step" and math.isfinite(value):  # metrics that are undefined on these rows are NaN
                writers[training, seed].add_scalar(name.replace(" ", "/", 1), value, row["step"])

    try:
        yield log
    finally:
        for writer in writers.values():
            writer.close()


@contextlib.contextmanager
def wandb(folder: pathlib.Path, project: str, configuration: Mapping[str, Any]) -> Iterator[Log]:
    """Weights & Biases logger: one run per training and seed, in one group; set WANDB_MODE=offline to log offline.

    Args:
        folder: run folder; its name is the group name.
        project: Weights & Biases project.
        configuration: configuration to log with each run.

    Raises:
        UserError: the package wandb is not installed.
    """
    try:
        import wandb as service  # pyrefly: ignore[missing-import]  optional dependency
    except ImportError:
        raise UserError("--wandb needs the package wandb: pip install 'mmkd_jax[wandb]'") from None

    runs: dict[tuple[str, int], Any] = {}

    def log(training: str, seed: int, row: Mapping[str, float | int]) -> None:
        if (training, seed) not in runs:
            runs[training, seed] = service.init(
                project=project,
                group=folder.name,
                name=f"{folder.name}/{training}/{seed}",
                dir=str(folder),
                config={**configuration, "training": training, "seed": seed},
                reinit="create_new",
            )
        values = {k: v for k, v in row.items() if k != "step"}
        runs[training, seed].log(values, step=int(row["step"]))

    try:
        yield log
    finally:
        for run in runs.values():
            run.finish()
