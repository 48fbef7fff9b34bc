"""Run folders: one configuration and one writer each; old runs are renamed, never deleted."""

import contextlib
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
from collections.abc import Iterator
from typing import Any

import jax

from mmkd_jax import files
from mmkd_jax.core import sharding
from mmkd_jax.errors import UserError

_PACKAGES = ("mmkd_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")


@contextlib.contextmanager
def opened(folder: pathlib.Path, fresh: bool, log: files.Log) -> Iterator[None]:
    """Lock a run folder for one run; with several processes, the primary one does so.

    Args:
        folder: the run folder; created if missing.
        fresh: rename an existing folder and start over.
        log: called with messages for the user.

    Raises:
        UserError: a folder of something else, a concurrent run, no permission, or no space.
    """
    with contextlib.ExitStack() as stack:

        def prepare():
            _check_kind(folder, fresh)
            if fresh and folder.exists():
                old = files.unused(folder.with_name(folder.name + ".old"))
                with files.locked(folder / ".lock", lambda: _busy(folder)), files.reported(folder, "renaming"):
                    folder.rename(old)
                log(f"the old run is kept as {old}")
            stack.enter_context(files.locked(folder / ".lock", lambda: _busy(folder)))
            recorded, current = folder / "environment.json", environment()
            known = files.recover_json(recorded, log)
            if known is not None and (moved := files.changes(known, current)):
                log(f"the environment changed since this run started ({'; '.join(moved)}): results may differ bitwise")
            else:
                files.write_json(recorded, current)

        sharding.on_primary(prepare)
        _check_shared(folder)
        yield


def _busy(folder: pathlib.Path) -> None:
    raise UserError(f"another run is writing to {folder}: wait for it, or use another folder (--out)")


def _check_kind(folder: pathlib.Path, fresh: bool) -> None:
    """Raise for a folder that is neither empty nor a run, and for one of an earlier version that is to be resumed."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder} is a file: use another folder (--out)")
    try:
        config = json.loads(files.read(folder / "config.json"))
    except (OSError, ValueError):
        config = {}
    known = set(config) if isinstance(config, dict) else set()
    earlier = "experiment" in known and not {"sha256", "configurations"} & known
    is_run = "experiment" in known or (folder / ".lock").exists() or (folder / "trainings").is_dir()
    if not is_run and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty and is not the folder of a run: use another folder (--out)")
    if earlier and not fresh:
        raise UserError(
            f"{folder} was written by an earlier mmkd_jax, which this version cannot resume: start over (--fresh), or "
            "use another folder (--out)"
        )


def _check_shared(folder: pathlib.Path) -> None:
    """Raise in every process if one does not see the run folder."""
    seen = sharding.process_allgather((folder / ".lock").is_file())
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
    for path in sorted(folder.glob("trainings/*/*/result.json")):
        done.setdefault(path.parent.parent.name, []).append(files.read_json(path)["validation"])
    for path in sorted(folder.glob("parts/*/*/result.json")):  # version 0.1
        done.setdefault(path.parent.parent.name, []).append(json.loads(files.read(path))["validation"])
    saved = [*folder.glob("trainings/*/*/checkpoints/*"), *folder.glob("parts/*/*/checkpoints/*")]
    steps = {p: int(p.name) for p in saved if p.name.isdigit()}
    last = max(steps, key=lambda p: p.stat().st_mtime, default=None)
    at = "" if last is None else f"{last.parts[-4]}, seed {last.parts[-3]}, step {steps[last]}"
    state = "finished" if _all_there(folder) else "stopped"
    state = "running" if files.is_locked(folder / ".lock") else state
    best = ", ".join(f"{training} {sum(v) / len(v):.3f} ({len(v)})" for training, v in done.items())
    old = folder / "command.txt"  # version 0.1
    command = files.read(old).strip() if old.is_file() else _command(folder)
    return str(folder), state, "" if state == "finished" else at, best, "" if state == "running" else command


def _all_there(folder) -> bool:
    """Return whether a run has finished, and none of its results has been removed since."""
    if not (folder / "results.json").is_file() or (folder / "parts").is_dir():  # the latter is of version 0.1
        return (folder / "results.json").is_file()
    rows = json.loads(files.read(folder / "results.json"))["rows"]
    return all((folder / "trainings" / r["training"] / str(r["seed"]) / "result.json").is_file() for r in rows)


def _command(folder) -> str:
    """Return the command that resumes a run; a folder that was copied or renamed is named in it."""
    config = files.read_json(folder / "config.json")
    command, here = config.get("command", ""), str(folder.absolute())
    if not command or config.get("folder", here) == here:
        return command
    words = shlex.split(command)
    while "--out" in words:
        del words[(i := words.index("--out")) : i + 2]
    return shlex.join([*(w for w in words if not w.startswith("--out=")), "--out", str(folder)])


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
