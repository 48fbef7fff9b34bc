"""Where a run's numbers go while it runs: a log is `(part, seed, row) -> None`, row a dict with "step"."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mmkd_jax import files
from mmkd_jax.errors import UserError

Log = Callable[[str, int, Mapping[str, float | int]], None]


@contextlib.contextmanager
def tensorboard(folder: pathlib.Path) -> Iterator[Log]:
    """TensorBoard events in `folder/PART/SEED`; what a killed run wrote beyond its checkpoint is purged.

    Args:
        folder: of the events.
    """
    import tensorboardX

    writers: dict[tuple[str, int], Any] = {}

    def log(part: str, seed: int, row: Mapping[str, float | int]) -> None:
        if (part, seed) not in writers:
            with files.reported(folder):
                place = folder / part / str(seed)
                # named by the second, which a run that is resumed at once has in common with the one before
                nth = f".{len(list(place.glob('*')))}"
                purge = int(row["step"])
                writers[part, seed] = tensorboardX.SummaryWriter(str(place), purge_step=purge, filename_suffix=nth)
        for name, value in row.items():
            if name != "step":
                writers[part, seed].add_scalar(name.replace(" ", "/", 1), value, row["step"])

    try:
        yield log
    finally:
        for writer in writers.values():
            writer.close()


@contextlib.contextmanager
def wandb(folder: pathlib.Path, project: str, configuration: Mapping[str, Any]) -> Iterator[Log]:
    """Weights & Biases: a run for each part and seed, grouped; offline as its own WANDB_MODE=offline says.

    Args:
        folder: of the run; its name groups the runs.
        project: of Weights & Biases.
        configuration: what is shown as the runs' configuration.

    Raises:
        UserError: the package is not there.
    """
    try:
        import wandb as service  # pyrefly: ignore[missing-import]  an extra of its own
    except ImportError:
        raise UserError("--wandb needs the package wandb: pip install 'mmkd_jax[wandb]'") from None

    runs: dict[tuple[str, int], Any] = {}

    def log(part: str, seed: int, row: Mapping[str, float | int]) -> None:
        if (part, seed) not in runs:
            runs[part, seed] = service.init(
                project=project,
                group=folder.name,
                name=f"{folder.name}/{part}/{seed}",
                dir=str(folder),
                config={**configuration, "part": part, "seed": seed},
                reinit="create_new",
            )
        values = {k: v for k, v in row.items() if k != "step"}
        runs[part, seed].log(values, step=int(row["step"]))

    try:
        yield log
    finally:
        for run in runs.values():
            run.finish()
