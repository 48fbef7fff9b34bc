"""Options and callbacks of a run."""

import dataclasses
import pathlib
from collections.abc import Callable

from mmkd_jax.reporting.loggers import Log


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Options of a run; `mmkd run` has them as flags.

    Several processes (`jax.distributed`) share the run folder; the primary process writes.
    """

    out: pathlib.Path | None = None
    """Run folder; default runs/NAME."""
    fresh: bool = False
    """Start over; the old run folder is renamed, not deleted."""
    allow_changed_data: bool = False
    """Continue with data, batch size or configuration that differ from the run folder's; changes are recorded."""
    cache: pathlib.Path | None = None
    """Folder for the outputs of cached models; default cache/ in the run folder. Runs may share it."""
    online: bool = False
    """Ignore caches and run the cached models in every step."""
    profile: int | None = None
    """Trace this many steps of each training after compilation into profile/ of the run folder (TensorBoard, XProf)."""
    command: str = ""
    """Command line that resumes the run; `mmkd runs` shows it."""

    def folder(self, name: str) -> pathlib.Path:
        """Return the run folder of the experiment `name`."""
        return pathlib.Path(self.out or pathlib.Path("runs") / name)


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
