"""Run a script of this package in a child process with bounded time and memory, on data from a stranger."""

import dataclasses
import json
import pathlib
import subprocess
import sys

from mmkd_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds of a child process.

    Attributes:
        seconds: maximum run time.
        max_bytes: maximum address space; not enforced on macOS and Windows.
    """

    seconds: float = 10.0
    max_bytes: int = 2**31


DEFAULT = Limits()


def run(script: pathlib.Path, data: bytes, name: str, limits: Limits = DEFAULT, *arguments: str) -> bytes:
    """Run a script that reads data from standard input, and raise if it fails.

    The script is called with this process's `sys.path` as JSON and `max_bytes`, which it sets, and the arguments.

    Args:
        script: the script.
        data: its standard input.
        name: what is read, used in messages.
        limits: maximum time and memory.
        *arguments: further arguments of the script.

    Returns:
        What it prints.

    Raises:
        UserError: the child exceeds a limit, fails or crashes.
    """
    paths = json.dumps([p for p in sys.path if p])
    command = [sys.executable, "-I", str(script), paths, str(limits.max_bytes), *arguments]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=limits.seconds)
    except subprocess.TimeoutExpired:
        raise UserError(f"{name} takes longer than {limits.seconds:g} s to read: do not use it") from None
    if done.returncode == 0:
        return done.stdout
    errors = [line.strip() for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
    text = "\n".join(errors)
    if "MemoryError" in text or "memory allocation" in text or "Cannot allocate" in text:
        raise UserError(f"{name} needs more than {limits.max_bytes / 2**30:g} GiB to read: do not use it")
    reason = errors[-1][:200] if errors else f"exit code {done.returncode}"
    raise UserError(f"{name} is damaged ({reason}): fetch it again")
