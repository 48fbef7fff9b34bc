"""Terminal support of runs: multi-process setup, stop signals, progress bars."""

import contextlib
import hashlib
import os
import pathlib
import platform
import signal
import sys
import time
import traceback
from collections.abc import Iterator

from mmkd_jax.errors import UserError

SECONDS_BETWEEN_LINES = 30
"""Between two lines of progress where there is no terminal."""


def discard_output() -> None:
    """Send standard output to nowhere, after its reader has exited or its disk is full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def keep_programs() -> None:
    """Enable JAX's persistent compilation cache in ~/.cache/mmkd_jax, unless the user has configured another folder.

    Without a home that can be written, programs are compiled anew each time. Each CPU model has a separate folder,
    because compiled CPU programs use its instruction set.
    """
    import jax

    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    about = pathlib.Path("/proc/cpuinfo")
    text = about.read_bytes().decode(errors="replace") if about.exists() else ""
    lines = {x for x in text.splitlines() if x.startswith(("model name", "flags"))}
    kind = hashlib.sha256(repr((platform.machine(), sorted(lines))).encode()).hexdigest()[:8]
    try:
        folder = pathlib.Path.home() / ".cache" / "mmkd_jax" / f"programs-{kind}"
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            return
    except (OSError, RuntimeError):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@contextlib.contextmanager
def together(coordinator: str | None, processes: int | None, process: int | None, distributed: bool) -> Iterator[None]:
    """Join a multi-process run, if requested; a process that fails exits at once, so that the others do not hang."""
    where = {"coordinator": coordinator, "processes": processes, "process": process}
    missing = [f"--{k}" for k, v in where.items() if v is None]
    if len(missing) == 3 and not distributed:
        yield
        return
    if 0 < len(missing) < 3:
        raise UserError(
            f"{', '.join(missing)} is not given: --coordinator, --processes and --process must be given together"
        )
    import jax

    try:
        jax.distributed.initialize(coordinator, processes, process, heartbeat_timeout_seconds=30)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"cannot join the other processes: {str(error).splitlines()[0]}") from error
    try:
        yield
    except BaseException as error:
        if isinstance(error, UserError):
            print(f"mmkd: {error}", file=sys.stderr)
        else:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        if jax.process_index() == 0:
            time.sleep(1)  # the others abort when the coordinator exits: their own message comes first
        os._exit(2 if isinstance(error, UserError) else 1)


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM as stop requests; a second Ctrl-C interrupts without waiting for a checkpoint."""
    signals: list[int] = []

    def receive(number, frame):
        if signals and number == signal.SIGINT:
            raise KeyboardInterrupt
        signals.append(number)

    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def callbacks(seeds: int, signals: list[int]):
    """Callbacks that show a progress bar on a terminal, and plain lines elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from mmkd_jax.core import sharding
    from mmkd_jax.experiment.callbacks import Callbacks

    class Output(Console):
        def on_broken_pipe(self):  # the reader went away, such as `| head`: training goes on; rich would exit
            discard_output()

    # paths and messages may contain brackets and colons, not markup
    quiet = not sharding.is_primary_process()
    console = Output(soft_wrap=True, highlight=False, markup=False, emoji=False, quiet=quiet)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[now]}", markup=False),
    )
    written = time.monotonic()

    def log(line):
        try:
            progress.console.print(line)
        except OSError as error:  # a full disk must not end the training
            print(f"mmkd: standard output cannot be written ({error.strerror}); training goes on", file=sys.stderr)
            discard_output()

    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task("", now="")

        def on_start(training, seed, steps):
            description = f"{training}, seed {seed} ({seed + 1}/{seeds})"
            progress.reset(bar, total=steps, description=description, now="compiling" if steps else "")

        def on_metrics(training, seed, row):
            shown = {k: v for k, v in row.items() if k != "step" and not k.startswith(("term ", "gradient ", "speed "))}
            shown |= {k.removeprefix("speed "): v for k, v in row.items() if k == "speed rows a second"}
            now = "  ".join(f"{k} {v:.4g}" for k, v in shown.items())
            progress.update(bar, completed=row["step"], now=now)
            nonlocal written
            if not console.is_terminal and time.monotonic() - written > SECONDS_BETWEEN_LINES:
                log(f"{training}, seed {seed}: step {row['step']:.0f}  {now}")
                written = time.monotonic()

        yield Callbacks(log, on_start, on_metrics, lambda: bool(signals))
