"""The run folder: one configuration, one writer, nothing deleted."""

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

from mmkd_jax import files, parallel
from mmkd_jax.errors import UserError

_PACKAGES = ("mmkd_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")


@contextlib.contextmanager
def opened(
    folder: pathlib.Path, configuration: Mapping[str, Any], fresh: bool, say, allow_changed: bool = False
) -> Iterator[None]:
    """Hold the folder for one run of one configuration; of several processes the first does.

    Args:
        folder: made where it is not there.
        configuration: JSON values; the same as those of the run that the folder holds, but for `config.seeds`.
        fresh: rename an old folder and start anew.
        say: called with what a person should know.
        allow_changed: take the new configuration, and record under "changed" what is other than it was.

    Raises:
        UserError: another configuration (its fields are named), another run at work, no permission, no space.
    """
    if not parallel.leads():
        parallel.of_all(0)
        yield
        return
    if fresh and folder.exists():
        old = files.unused(folder.with_name(folder.name + ".old"))
        with files.reported(folder, "renaming"):
            folder.rename(old)
        say(f"the old run is kept as {old}")
    with files.reported(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # let go by the system, however the process ends
        except BlockingIOError:
            raise UserError(f"another run is writing to {folder}: wait for it, or use another folder: --out") from None
        new = json.loads(json.dumps(configuration))
        saved = folder / "config.json"
        if saved.is_file():
            old = json.loads(saved.read_text())
            before = old.pop("changed", [])
            if (changed := changes(old, new)) and not allow_changed:
                raise UserError(
                    f"{folder} holds a run of another configuration ({'; '.join(changed)}): take it back, use another "
                    "folder (--out), start anew (--fresh), or go on with what changed (--allow-changed-data)"
                )
            for line in changed:
                say(f"going on with another configuration: {line}")
            if before or changed:
                new["changed"] = [*before, *changed]
        files.write(saved, json.dumps(new, indent=1) + "\n")
        here, now = folder / "environment.json", environment()
        if here.is_file() and (moved := changes(json.loads(here.read_text()), now)):
            say(f"the environment is not the one this run began in ({'; '.join(moved)}): bits may differ")
        else:
            files.write(here, json.dumps(now, indent=1) + "\n")
        parallel.of_all(0)  # the folder is there, and is the right one
        yield


def runs(root: pathlib.Path) -> list[tuple[str, str, str, str, str]]:
    """The run folders below a folder, the latest first.

    Args:
        root: looked through, two levels deep; or a run folder itself.

    Returns:
        For each: name; "running", "finished" or "stopped"; part, seed and step where it is; the best metric on
        validation of each part that is done, a mean over so many seeds; the command that goes on with it.
    """
    places = [p.parent for pattern in ("config.json", "*/config.json", "*/*/config.json") for p in root.glob(pattern)]
    rows = []
    for folder in sorted(places, key=lambda p: -(p / ".lock").stat().st_mtime if (p / ".lock").exists() else 0):
        done: dict[str, list[float]] = {}
        for path in sorted(folder.glob("parts/*/*/result.json")):
            done.setdefault(path.parent.parent.name, []).append(json.loads(path.read_text())["validation"])
        steps = {p: int(p.name) for p in folder.glob("parts/*/*/checkpoints/*") if p.name.isdigit()}
        last = max(steps, key=lambda p: p.stat().st_mtime, default=None)
        at = "" if last is None else f"{last.parts[-4]}, seed {last.parts[-3]}, step {steps[last]}"
        state = "running" if _held(folder) else "finished" if (folder / "results.json").is_file() else "stopped"
        best = ", ".join(f"{part} {sum(v) / len(v):.3f} ({len(v)})" for part, v in done.items())
        command = (folder / "command.txt").read_text().strip() if (folder / "command.txt").is_file() else ""
        rows.append(
            (str(folder), state, "" if state == "finished" else at, best, "" if state == "running" else command)
        )
    return rows


def _held(folder: pathlib.Path) -> bool:
    """Whether a run is at work in it."""
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
    """Versions and devices, for whoever wants to know what made a number."""
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


def made() -> str:
    """Date, machine and version, for the head of a page of results."""
    here = environment()
    return f"{datetime.date.today()}, {here['cores']} cores, {here['system']}, jax {here['packages']['jax']}"


def changes(old: Any, new: Any, path: str = "") -> list[str]:
    """What differs, field by field; the number of seeds may grow or shrink."""
    if path == "config.seeds":
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        return [line for k in keys for line in changes(old.get(k), new.get(k), f"{path}.{k}".lstrip("."))]
    if old == new:
        return []
    if path == "code":
        return ["the experiment's code changed"]
    return [f"{path}: {old} there, {new} now"]
