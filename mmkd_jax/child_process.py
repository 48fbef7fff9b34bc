"""Run a script of this package in a child process with bounded time and memory, on data from a stranger."""

import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile
import threading

from mmkd_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds of a child process.

    Attributes:
        seconds: maximum run time.
        max_bytes: maximum address space; not enforced on macOS and Windows.
        loading: maximum time to import a large package first, such as transformers.
    """

    seconds: float = 10.0
    max_bytes: int = 2**31
    loading: float = 300.0


DEFAULT = Limits()
_PIPE = subprocess.PIPE


def run(
    script: pathlib.Path, data: bytes, name: str, limits: Limits = DEFAULT, *arguments: str, loads: str = ""
) -> bytes:
    """Run a script that reads data from standard input, and raise if it fails.

    The script is called with this process's `sys.path` as JSON and `max_bytes`, which it sets, and the arguments.

    Args:
        script: the script.
        data: its standard input.
        name: what is read, used in messages.
        limits: maximum time and memory.
        *arguments: further arguments of the script.
        loads: package that the script imports before it prints a line and reads; "" for none.

    Returns:
        What it prints.

    Raises:
        UserError: the child exceeds a limit, fails or crashes.
    """
    paths = json.dumps([p for p in sys.path if p])
    command = [sys.executable, "-I", str(script), paths, str(limits.max_bytes), *arguments]
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, stdin=_PIPE, stdout=_PIPE, stderr=log) as child:
        try:
            if loads and _is_late(child, limits.loading):
                raise UserError(
                    f"{name}: importing {loads} takes longer than {limits.loading:g} s here: try again when the "
                    "machine is less busy, or pass limits=mmkd.pretrained.Limits(loading=…)"
                )
            printed = child.communicate(data, limits.seconds)[0]
        except subprocess.TimeoutExpired:
            raise UserError(f"{name} takes longer than {limits.seconds:g} s to read: do not use it") from None
        finally:
            child.kill()
        if child.returncode == 0:
            return printed
        log.seek(0)
        errors = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    text = "\n".join(errors)
    if "MemoryError" in text or "memory allocation" in text or "Cannot allocate" in text:
        raise UserError(f"{name} needs more than {limits.max_bytes / 2**30:g} GiB to read: do not use it")
    reason = errors[-1][:200] if errors else f"exit code {child.returncode}"
    raise UserError(f"{name} is damaged ({reason}): fetch it again")


def _is_late(child: subprocess.Popen, seconds: float) -> bool:
    """Wait for the first line of a child process; return whether it took too long, and the child is stopped."""
    late = threading.Event()

    def end():
        late.set()
        child.kill()

    timer = threading.Timer(max(seconds, 0.0), end)
    timer.start()
    assert child.stdout is not None
    child.stdout.readline()
    timer.cancel()
    return late.is_set()
