"""Run folders: one configuration and one writer each; old runs are renamed, never deleted."""

import contextlib
import datetime
import fcntl
import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from mmkd_jax import files
from mmkd_jax.core import sharding
from mmkd_jax.errors import UserError
from mmkd_jax.files import changes

_PACKAGES = ("mmkd_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")


@contextlib.contextmanager
def opened(
    folder: pathlib.Path, configuration: Mapping[str, Any], fresh: bool, log, allow_changed: bool = False
) -> Iterator[None]:
    """Lock a run folder for one run of one configuration; with several processes, the primary one does so.

    Args:
        folder: the run folder; created if missing.
        configuration: JSON values; must equal those of the run in the folder, except for `config.seeds`.
        fresh: rename an existing folder and start over.
        log: called with messages for the user.
        allow_changed: accept another configuration, and record the differences under "changed".

    Raises:
        UserError: another configuration (with its differing fields), a concurrent run, no permission, or no space.
    """
    if not sharding.is_primary_process():
        sharding.process_allgather(0)
        _check_shared(folder)
        yield
        return
    if fresh and folder.exists():
        old = files.unused(folder.with_name(folder.name + ".old"))
        with files.reported(folder, "renaming"):
            folder.rename(old)
        log(f"the old run is kept as {old}")
    with files.reported(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "w")  # noqa: SIM115  closed below, so that its error is reported
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released by the system when the process ends
        except BlockingIOError:
            raise UserError(f"another run is writing to {folder}: wait for it, or use another folder (--out)") from None
        new = json.loads(json.dumps(configuration))
        saved = folder / "config.json"
        if saved.is_file():
            old = files.read_json(saved)
            before = old.pop("changed", [])
            if "numbers" in old:
                raise UserError(
                    f"{folder} was written by mmkd_jax 0.1, which this version cannot resume: start over (--fresh), or "
                    "use another folder (--out)"
                )
            if (changed := changes(old, new)) and not allow_changed:
                raise UserError(
                    f"{folder} has a run of another configuration ({'; '.join(changed)}): revert the change, use "
                    "another folder (--out), start over (--fresh), or continue anyway (--allow-changed-data)"
                )
            for line in changed:
                log(f"continuing with another configuration: {line}")
            if before or changed:
                new["changed"] = [*before, *changed]
        files.write(saved, json.dumps(new, indent=1) + "\n")
        recorded, current = folder / "environment.json", environment()
        if recorded.is_file() and (moved := changes(files.read_json(recorded), current)):
            log(f"the environment changed since this run started ({'; '.join(moved)}): results may differ bitwise")
        else:
            files.write(recorded, json.dumps(current, indent=1) + "\n")
        sharding.process_allgather(0)  # the folder exists and is valid
        _check_shared(folder)
        yield


def _check_shared(folder: pathlib.Path) -> None:
    """Raise in every process if one does not see the run folder."""
    seen = sharding.process_allgather((folder / "config.json").is_file())
    if blind := [str(i) for i, sees in enumerate(seen) if not sees]:
        raise UserError(
            f"process {', '.join(blind)} does not see {folder}: all processes need a folder that they share (--out)"
        )


def runs(root: pathlib.Path) -> list[tuple[str, str, str, str, str]]:
    """List the run folders below a folder, most recent first.

    Args:
        root: folder to search, two levels deep; or a run folder itself.

    Returns:
        For each run: path; "running", "finished" or "stopped"; current training, seed and step; best validation metric
        of each finished training, as the mean over seeds (number of seeds); the command that resumes it.
    """
    places = [p.parent for pattern in ("config.json", "*/config.json", "*/*/config.json") for p in root.glob(pattern)]
    rows = []
    for folder in sorted(places, key=lambda p: -(p / ".lock").stat().st_mtime if (p / ".lock").exists() else 0):
        try:
            rows.append(_row(folder))
        except (UserError, OSError, KeyError, TypeError) as error:  # one damaged folder must not hide the others
            rows.append((str(folder), "damaged", "", str(error).splitlines()[0], ""))
    return rows


def _row(folder):
    """Return path, state, place, best metrics and command of a run."""
    done: dict[str, list[float]] = {}
    for path in sorted([*folder.glob("trainings/*/*/result.json"), *folder.glob("parts/*/*/result.json")]):
        done.setdefault(path.parent.parent.name, []).append(files.read_json(path)["validation"])
    saved = [*folder.glob("trainings/*/*/checkpoints/*"), *folder.glob("parts/*/*/checkpoints/*")]
    steps = {p: int(p.name) for p in saved if p.name.isdigit()}
    last = max(steps, key=lambda p: p.stat().st_mtime, default=None)
    at = "" if last is None else f"{last.parts[-4]}, seed {last.parts[-3]}, step {steps[last]}"
    state = "running" if _is_locked(folder) else "finished" if (folder / "results.json").is_file() else "stopped"
    best = ", ".join(f"{training} {sum(v) / len(v):.3f} ({len(v)})" for training, v in done.items())
    command = files.read(folder / "command.txt").strip() if (folder / "command.txt").is_file() else ""
    return str(folder), state, "" if state == "finished" else at, best, "" if state == "running" else command


def _is_locked(folder: pathlib.Path) -> bool:
    """Return whether a run is active in the folder."""
    lock = folder / ".lock"
    if not lock.is_file():
        return False
    with open(lock) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def environment() -> dict[str, Any]:
    """Return package versions, system and devices, as recorded with each run."""
    versions = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "devices": [f"{d.platform} {d.device_kind}" for d in jax.devices()],
        "packages": versions,
    }


def provenance() -> str:
    """Return date, machine and JAX version, for the header of a page of results."""
    system = environment()
    return f"{datetime.date.today()}, {system['cores']} cores, {system['system']}, jax {system['packages']['jax']}"
