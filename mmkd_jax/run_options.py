"""Options of a run; imports no jax, so that `mmkd run --help` is fast."""

import dataclasses
import pathlib
import re

from mmkd_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Options of a run; `mmkd run` has them as flags.

    Several processes (`jax.distributed`) share the run folder; the primary process writes.
    """

    out: pathlib.Path | None = None
    """Run folder; default runs/NAME."""
    fresh: bool = False
    """Start over; the old run folder is renamed, not deleted."""
    extend: bool = False
    """Lengthen trainings to the file's `steps` and schedule, from their last checkpoints; the table marks them."""
    allow_changed_code: bool = False
    """Keep what was trained by other code (loss, optimizer, models, metrics), and go on; the table marks it."""
    allow_changed_settings: bool = False
    """Keep what was trained with other hyperparameters or steps, and go on; the table marks it."""
    allow_changed_data: bool = False
    """Keep what was trained on other data, batch sizes or augmentation, and go on; the table marks it."""
    allow_changed_sources: bool = False
    """Keep what was initialized from other variables, and go on; the table marks it."""
    cache: pathlib.Path | None = None
    """Folder for the outputs of cached models; default cache/ in the run folder. Runs may share it."""
    online: bool = False
    """Ignore caches and run the cached models in every step."""
    profile: int | None = None
    """Trace this many steps of each training after compilation into profile/ of the run folder (TensorBoard, XProf)."""
    command: str = ""
    """Command line that resumes the run; `mmkd runs` shows it."""

    def __post_init__(self):
        if self.profile is not None and self.profile < 1:
            raise UserError(f"--profile is {self.profile}; expected a number of steps, at least 1")
        if self.fresh and self.allowed:
            flags = [f"--allow-changed-{a}" if a != "extend" else "--extend" for a in sorted(self.allowed)]
            raise UserError(
                f"--fresh starts over, so there is nothing to keep with {' '.join(flags)}: remove one of them"
            )
        for field in ("out", "cache"):
            value = getattr(self, field)
            if value is None:
                continue
            if "://" in str(value) or re.match(r"[a-z][a-z0-9]+:/", str(value)):
                raise UserError(f"--{field} {value}: only folders of this machine's file system are supported")
            if not str(value).strip():
                raise UserError(f"--{field} is empty; expected a folder")

    @property
    def allowed(self) -> frozenset[str]:
        """Aspects of a training that may differ from the run folder's, and "extend" if it may be lengthened."""
        aspects = [a for a in ("code", "settings", "data", "sources") if getattr(self, f"allow_changed_{a}")]
        return frozenset([*aspects, *["extend"] * self.extend])

    def folder(self, name: str) -> pathlib.Path:
        """Return the run folder of the experiment `name`, as an absolute path."""
        return pathlib.Path(self.out or pathlib.Path("runs") / name).absolute()
