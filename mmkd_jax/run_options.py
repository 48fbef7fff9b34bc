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

    def __post_init__(self):
        for field in ("out", "cache"):
            value = getattr(self, field)
            if value is None:
                continue
            if "://" in str(value) or re.match(r"[a-z][a-z0-9]+:/", str(value)):
                raise UserError(f"--{field} {value}: only folders of this machine's file system are supported")
            if not str(value).strip():
                raise UserError(f"--{field} is empty; expected a folder")

    def folder(self, name: str) -> pathlib.Path:
        """Return the run folder of the experiment `name`."""
        return pathlib.Path(self.out or pathlib.Path("runs") / name)
