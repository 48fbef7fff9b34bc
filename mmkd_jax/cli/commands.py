"""The `mmkd` command: run and explain experiments, list losses, list and prepare data sets."""

import contextlib
import dataclasses
import logging
import os
import pathlib
import re
import signal
import sys
from typing import Annotated, Any

import tyro

from mmkd_jax.errors import UserError

_USAGE = """usage: mmkd COMMAND …

  run FILE            run or resume an experiment (--help shows its options)
  cache FILE          compute its teachers' outputs once and cache them on disk for `run FILE`
  explain FILE        summarize an experiment from shapes alone, without training
  table NAME          retrain a paper's table and compare it with the published results; `table list` lists them
  losses              list losses and methods; NAME prints one, --json and --markdown print all
  runs [DIR]          list run folders: state, step, best metric, command to resume
  data list           list the data sets
  data info NAME      describe a data set: contents and sources
  data prepare NAME   build a data set from its sources and verify it against the recorded version

  --debug             print the traceback of errors"""
_LOSSES = "usage: mmkd losses [NAME | --json | --markdown]"
_TABLE = "usage: mmkd table list | page DIR | NAME [--seeds N] [--quick] [--out DIR] [--json]"
_DATA = "usage: mmkd data list | info NAME | prepare NAME [--out DIR]"


def main(arguments: list[str] | None = None) -> None:
    """Run the command `mmkd`; exits with 0, 2 (user error), 130 (Ctrl-C) or 143 (SIGTERM)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [w for w in words if w != "--debug"]
    if not debug:  # Orbax logs tracebacks of errors that we report in one line
        logging.getLogger("absl").setLevel(logging.CRITICAL)
    code = 0
    try:
        match words:
            case [] | ["-h" | "--help"]:
                print(_USAGE)
            case ["run" | "cache" | "explain" as command, "-h" | "--help"]:
                more = f"mmkd {command} FILE --help also shows the options of the experiment's config."
                tyro.cli(_Options, args=["--help"], prog=f"mmkd {command} FILE", description=more)
            case ["losses", *rest] if {"-h", "--help"} & set(rest):
                print(_LOSSES)
            case ["data", *rest] if {"-h", "--help"} & set(rest):
                print(_DATA)
            case ["table", *rest] if {"-h", "--help"} & set(rest):
                print(_TABLE)
            case ["table", *rest]:
                _table(rest)
            case ["run", file, *rest] if not file.startswith("-"):
                code = _run(file, rest)
            case ["cache", file, *rest] if not file.startswith("-"):
                code = _run(file, rest, only_cache=True)
            case ["explain", file, *rest] if not file.startswith("-"):
                _explain(file, rest)
            case ["losses", *rest]:
                _losses(rest)
            case ["data", *rest]:
                _data(rest)
            case ["runs"] | ["runs", _] if not words[-1].startswith("-"):
                _runs(pathlib.Path(words[1] if len(words) > 1 else "runs"))
            case _:
                raise UserError(
                    f"unknown command {' '.join(words)!r}; expected mmkd run FILE, explain FILE, "
                    "losses or data …; see mmkd --help"
                )
    except UserError as error:
        if debug:
            raise
        print(f"mmkd: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        if debug:
            raise
        print("mmkd: interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:  # the reader of the pipe has exited, such as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


@dataclasses.dataclass(frozen=True)
class _Options:
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


@dataclasses.dataclass(frozen=True)
class _TableOptions:
    seeds: int | None = None
    """Number of seeds; existing seeds are not trained again. Default: the number set by the table."""
    quick: bool = False
    """Few seeds: a quick run that still shows the effect."""
    out: pathlib.Path | None = None
    """Folder for seeds, tables and the figure; default runs/tables/NAME."""
    json: bool = False
    """Print only {"cells": [...]} to standard output."""


def _parse(experiment, words: list[str], prog: str) -> tuple[_Options, Any, dict[str, float]]:
    """Parse run options, fields of the experiment's config, and hyperparameters of its objectives."""
    rest, hyperparams = [], {}
    words = list(words)
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
            ("options", Annotated[_Options, flat], _Options()),
            ("config", Annotated[kind, flat], experiment.config),
        ],
        frozen=True,
    )
    both.__doc__ = (
        "Hyperparameters of an objective are options as well, for all trainings (--objective.TERM.NAME 2) or for one "
        "(--TRAINING.objective.TERM.NAME 2), as are those of a gradient aggregator (--gradients.NAME 2); `mmkd "
        "explain` lists them. --debug prints the traceback of errors."
    )
    parsed = tyro.cli(both, args=rest, prog=prog, config=(tyro.conf.AvoidSubcommands,))
    return parsed.options, parsed.config, hyperparams


def _run(file: str, words: list[str], only_cache: bool = False) -> int:
    from mmkd_jax.cli import terminal
    from mmkd_jax.core import sharding
    from mmkd_jax.experiment import definition as experiments  # lazy, so that --help and errors are fast
    from mmkd_jax.experiment import runner
    from mmkd_jax.reporting import loggers
    from mmkd_jax.training import loop

    terminal.keep_programs()  # before the first compilation, after which jax ignores it
    experiment = experiments.load(file)
    options, config, hyperparams = _parse(experiment, words, f"mmkd run {file}")
    folder = options.out or pathlib.Path("runs") / experiment.name
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            terminal.together(options.coordinator, options.processes, options.process, options.distributed)
        )
        asked = stack.enter_context(terminal.asked_to_stop())
        observer = stack.enter_context(terminal.observer(config.seeds, asked))
        logs = []
        if options.wandb is not None and sharding.is_primary_process():
            logs.append(stack.enter_context(loggers.wandb(folder, options.wandb, dataclasses.asdict(config))))
        command = " ".join([f"mmkd {'cache' if only_cache else 'run'}", file, *(w for w in words if w != "--fresh")])
        try:
            runner.run(
                experiment,
                config,
                hyperparams,
                folder,
                options.fresh,
                observer,
                options.allow_changed_data,
                options.cache,
                options.online,
                only_cache,
                options.profile,
                tuple(logs),
                command,
            )
        except loop.Interrupted as interrupted:
            observer.log(f"stopped, {interrupted}; progress is saved. To resume: {command}")
            return 128 + (asked or [signal.SIGTERM])[0]  # another process may have received the signal
        if only_cache:
            observer.log(f"the caches are in {options.cache or folder / 'cache'}/; mmkd run {file} reads them")
            return 0
        table = (folder / "table.txt").read_text().rstrip()
        observer.log(f"\n{table}\n\nfigures, events and checkpoints are in {folder}/")
    return 0


def _explain(file: str, words: list[str]) -> None:
    from mmkd_jax.experiment import definition as experiments
    from mmkd_jax.experiment import explain

    experiment = experiments.load(file)
    _, config, hyperparams = _parse(experiment, words, f"mmkd explain {file}")
    trainings = experiment.trainings(config)
    print(explain.text(trainings, experiments.check(trainings, hyperparams)))


def _losses(words: list[str]) -> None:
    from mmkd_jax.cli import catalogue

    match words:
        case []:
            print(catalogue.text())
        case ["--json"]:
            print(catalogue.as_json())
        case ["--markdown"]:
            print(catalogue.markdown(), end="")
        case [name] if not name.startswith("-"):
            print(catalogue.describe(name))
        case _:
            raise UserError(_LOSSES)


def _table(words: list[str]) -> None:
    from mmkd_jax.cli import terminal
    from mmkd_jax.core import sharding
    from mmkd_jax.paper_tables import render, run

    match words:
        case ["list"]:
            return print(run.listed())
        case ["page", folder]:
            return print(render.page(pathlib.Path(folder)))
        case [name, *rest] if not name.startswith("-"):
            pass
        case _:
            raise UserError(_TABLE)
    parsed = tyro.cli(_TableOptions, args=rest, prog=f"mmkd table {name}")
    sharding.device_per_core()
    terminal.keep_programs()
    file = run.find(name)
    folder = parsed.out or pathlib.Path("runs") / "tables" / (file.stem + "_quick" * parsed.quick)

    def log(line):
        print(line, file=sys.stderr)

    try:
        cells = run.run(file, folder, parsed.seeds, parsed.quick, log)
    except KeyboardInterrupt:
        log(f"interrupted; finished seeds are in {folder}/. To resume: mmkd table {' '.join(words)}")
        raise
    if parsed.json:
        print(render.as_json(cells))
    else:
        print((folder / "table.txt").read_text().rstrip() + f"\n\nseeds and figures are in {folder}/")


def _data(words: list[str]) -> None:
    from mmkd_jax.data import commands

    match words:
        case ["list"]:
            print(commands.list_())
        case ["info", name]:
            print(commands.info(name))
        case ["prepare", name]:
            print(commands.prepare(name))
        case ["prepare", name, "--out", out]:
            print(commands.prepare(name, pathlib.Path(out)))
        case _:
            raise UserError(_DATA)


def _runs(folder: pathlib.Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from mmkd_jax.experiment import run_folder

    found = run_folder.runs(folder)
    if not found:
        raise UserError(f"no runs in {folder}/; use `mmkd runs DIR` for another folder")
    table = Table()
    for head in ("run", "state", "at", "best on validation", "to resume"):
        table.add_column(head, overflow="fold")
    for row in found:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 200).print(table)
