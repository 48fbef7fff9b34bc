"""The commands `mmkd run`, `mmkd cache` and `mmkd explain`."""

import contextlib
import dataclasses
import itertools
import pathlib
import re
import shlex
import signal
from typing import Annotated, Any

import tyro

from mmkd_jax import files
from mmkd_jax.cli import parsing
from mmkd_jax.errors import UserError
from mmkd_jax.run_options import RunOptions


@dataclasses.dataclass(frozen=True)
class Options(RunOptions):
    """Options of `mmkd run`, `cache` and `explain`."""

    command: tyro.conf.Suppress[str] = ""
    """The command line itself."""
    wandb: str | None = None
    """Also log to this Weights & Biases project; WANDB_MODE=offline logs to disk."""
    distributed: bool = False
    """Join a multi-process run with automatic cluster detection (Slurm, TPU pods, Open MPI)."""
    coordinator: str | None = None
    """HOST:PORT of the coordinator (process 0), without cluster detection; requires --processes and --process."""
    processes: int | None = None
    """Total number of processes."""
    process: int | None = None
    """Index of this process, from 0."""


def parse(experiment, words: list[str], prog: str) -> tuple[Options, Any, dict[str, float]]:
    """Parse run options, fields of the experiment's config, and hyperparameters of its objectives."""
    rest, hyperparams = [], {}
    words = list(words)
    for flag in ("--out", "--cache"):
        if f"{flag}=" in words or (flag, "") in itertools.pairwise(words):
            raise UserError(f"{flag} is empty; expected a folder")
    while words:
        word = words.pop(0)
        match = re.fullmatch(r"--((?:[\w-]+\.)?(?:objective|gradients|scheme)\.[\w.]+)(?:=(.*))?", word)
        if match is None:
            rest.append(word)
            continue
        value = match[2] if match[2] is not None else words.pop(0) if words else ""
        try:
            hyperparams[match[1]] = float(value)
        except ValueError:
            raise UserError(f"--{match[1]} needs a number, not {value!r}") from None
    flat, kind = tyro.conf.arg(name=""), type(experiment.config)
    both = dataclasses.make_dataclass(
        "Run",
        [
            ("options", Annotated[Options, flat], Options()),
            ("config", Annotated[kind, flat], experiment.config),
        ],
        frozen=True,
    )
    both.__doc__ = (
        "Hyperparameters of an objective are options as well, for all trainings (--objective.TERM.NAME 2) or for one "
        "(--TRAINING.objective.TERM.NAME 2), as are those of a gradient aggregator (--gradients.NAME 2); `mmkd "
        "explain` lists them. --debug prints the traceback of errors."
    )
    parsed = parsing.parsed(both, rest, prog, config=(tyro.conf.AvoidSubcommands,))
    return parsed.options, parsed.config, hyperparams


def run(file: str, words: list[str], only_cache: bool = False) -> int:
    """Run an experiment, or only compute its caches; returns the exit code."""
    from mmkd_jax.cli import terminal  # lazy, so that --help and errors are fast
    from mmkd_jax.core import sharding
    from mmkd_jax.experiment import definition, runner
    from mmkd_jax.reporting import loggers
    from mmkd_jax.training import loop

    sharding.threads_for_devices()
    terminal.keep_programs()  # before the first compilation, after which jax ignores it
    here = pathlib.Path.cwd()
    experiment = definition.load(file)
    options, config, hyperparams = parse(experiment, words, f"mmkd {'cache' if only_cache else 'run'} {file}")
    out = here / (options.out or pathlib.Path("runs") / experiment.name)  # the file may have changed the folder
    options = dataclasses.replace(options, out=out, cache=options.cache and here / options.cache)
    command = shlex.join(["mmkd", "cache" if only_cache else "run", file, *(w for w in words if w != "--fresh")])
    options = dataclasses.replace(options, command=command)
    folder = options.folder(experiment.name)
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            terminal.together(options.coordinator, options.processes, options.process, options.distributed)
        )
        signals = stack.enter_context(terminal.stop_signals())
        callbacks = stack.enter_context(terminal.callbacks(config.seeds, signals))
        if options.wandb is not None and sharding.is_primary_process():
            wandb = stack.enter_context(loggers.wandb(folder, options.wandb, dataclasses.asdict(config)))
            callbacks = dataclasses.replace(callbacks, loggers=(wandb,))
        start = runner.build_caches if only_cache else runner.run
        try:
            start(experiment, config, hyperparams, options, callbacks)
        except loop.Interrupted as interrupted:
            callbacks.log(f"stopped, {interrupted}; progress is saved. To resume: {command}")
            return 128 + (signals or [signal.SIGTERM])[0]  # another process may have received the signal
        if only_cache:
            command = shlex.join(["mmkd", "run", file])
            callbacks.log(f"the caches are in {options.cache or folder / 'cache'}/; {command} reads them")
            return 0
        table = files.read(folder / "table.txt").rstrip()
        callbacks.log(f"\n{table}\n\nfigures, events and checkpoints are in {folder}/")
    return 0


def explain(file: str, words: list[str]) -> None:
    """Print a summary of an experiment."""
    from mmkd_jax.experiment import definition

    experiment = definition.load(file)
    _, config, hyperparams = parse(experiment, words, f"mmkd explain {file}")
    print(definition.explain(experiment, config, hyperparams))


def prepare(file: str, words: list[str]) -> None:
    """Create the trainings of an experiment, which decodes its files, and print the size of their data."""
    from mmkd_jax.experiment import definition

    experiment = definition.load(file)
    _, config, _ = parse(experiment, words, f"mmkd data prepare {file}")
    for name, training in experiment.trainings(config).items():
        sizes = {split: getattr(training, split).size for split in ("data", "validation", "test")}
        print(f"{name}: {', '.join(f'{n:,} rows of {split}' for split, n in sizes.items())}")
