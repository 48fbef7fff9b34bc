"""The command `mmkd`: run and explain experiments, list losses, list and prepare data sets."""

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
  cache FILE          compute what its teachers say, once and on disk; run FILE then reads it
  explain FILE        what an experiment will do, from shapes alone
  table NAME          a paper's table, trained from scratch beside its published figures; table list
  losses              every loss and method; losses NAME prints one, --json and --markdown all
  runs [DIR]          run folders: state, step, best metric, how to go on
  data list           the data sets
  data info NAME      what a data set holds, where it comes from
  data prepare NAME   make a data set from its sources and compare it with what is recorded

  --debug             show the stack trace of an error"""
_LOSSES = "usage: mmkd losses [NAME | --json | --markdown]"
_TABLE = "usage: mmkd table list | page DIR | NAME [--seeds N] [--quick] [--out DIR] [--json]"
_DATA = "usage: mmkd data list | info NAME | prepare NAME [--out DIR]"


def main(arguments: list[str] | None = None) -> None:
    """Entry point: exits with 0, 2 (something the user can mend), 130 (Ctrl-C) or 143 (terminated)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [w for w in words if w != "--debug"]
    if not debug:  # orbax logs the stack trace of a full disk, which we say in one line
        logging.getLogger("absl").setLevel(logging.CRITICAL)
    code = 0
    try:
        match words:
            case [] | ["-h" | "--help"]:
                print(_USAGE)
            case ["run" | "cache" | "explain" as command, "-h" | "--help"]:
                more = f"mmkd {command} FILE --help shows the options of the experiment's own config, too."
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
                    f"cannot read {' '.join(words)!r}: mmkd run FILE, explain FILE, losses or data …; see mmkd --help"
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
    except BrokenPipeError:  # whoever read our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


@dataclasses.dataclass(frozen=True)
class _Options:
    out: pathlib.Path | None = None
    """The run folder; runs/NAME if not given."""
    fresh: bool = False
    """Start anew; the old run folder is renamed, not deleted."""
    allow_changed_data: bool = False
    """Go on with other data, batch size or configuration than the run folder's; what changed is recorded."""
    cache: pathlib.Path | None = None
    """Where the outputs of cached models are kept; cache/ in the run folder if not given. Runs may share it."""
    online: bool = False
    """Run the models that parts cache in every step instead."""
    profile: int | None = None
    """Trace so many steps of each part, once compiled, into profile/ of the run folder (TensorBoard, XProf)."""
    wandb: str | None = None
    """Log to this project of Weights & Biases, too; WANDB_MODE=offline keeps it on disk."""
    distributed: bool = False
    """One of several processes that train as one; where they are is found out (Slurm, TPU pods, Open MPI)."""
    coordinator: str | None = None
    """HOST:PORT of the first of several processes, where it cannot be found out; with --processes and --process."""
    processes: int | None = None
    """How many processes there are."""
    process: int | None = None
    """Which of them this is, from 0."""


@dataclasses.dataclass(frozen=True)
class _TableOptions:
    seeds: int | None = None
    """How many; those that are there already are not trained again. The table's own number if not given."""
    quick: bool = False
    """Few seeds: quick, and the effect still shows."""
    out: pathlib.Path | None = None
    """Where seeds, tables and the figure go; runs/tables/NAME if not given."""
    json: bool = False
    """Print {"cells": [...]} and nothing else on standard output."""


def _parse(experiment, words: list[str], prog: str) -> tuple[_Options, Any, dict[str, float]]:
    """Options of the run, fields of the experiment's config, numbers of its objectives."""
    rest, numbers = [], {}
    words = list(words)
    while words:
        word = words.pop(0)
        match = re.fullmatch(r"--((?:[\w-]+\.)?(?:objective|scheme)\.[\w.]+)(?:=(.*))?", word)
        if match is None:
            rest.append(word)
            continue
        value = match[2] if match[2] is not None else words.pop(0) if words else ""
        try:
            numbers[match[1]] = float(value)
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
        "Any number of an objective is an option, too, for all parts (--objective.TERM.NUMBER 2) or for one "
        "(--PART.objective.TERM.NUMBER 2), and so is one of a gradient scheme (--scheme.NUMBER 2); `mmkd explain` "
        "lists them. --debug shows the stack trace of an error."
    )
    parsed = tyro.cli(both, args=rest, prog=prog, config=(tyro.conf.AvoidSubcommands,))
    return parsed.options, parsed.config, numbers


def _run(file: str, words: list[str], only_cache: bool = False) -> int:
    from mmkd_jax import experiment as experiments  # late, so that --help and a wrong command answer at once
    from mmkd_jax import parallel, runner, terminal, train
    from mmkd_jax.evaluate import logs

    terminal.keep_programs()  # before anything is compiled, or jax looks no more
    experiment = experiments.load(file)
    options, config, numbers = _parse(experiment, words, f"mmkd run {file}")
    folder = options.out or pathlib.Path("runs") / experiment.name
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            terminal.together(options.coordinator, options.processes, options.process, options.distributed)
        )
        asked = stack.enter_context(terminal.asked_to_stop())
        observer = stack.enter_context(terminal.observer(config.seeds, asked))
        more = []
        if options.wandb is not None and parallel.leads():
            more.append(stack.enter_context(logs.wandb(folder, options.wandb, dataclasses.asdict(config))))
        command = " ".join([f"mmkd {'cache' if only_cache else 'run'}", file, *(w for w in words if w != "--fresh")])
        try:
            runner.run(
                experiment,
                config,
                numbers,
                folder,
                options.fresh,
                observer,
                options.allow_changed_data,
                options.cache,
                options.online,
                only_cache,
                options.profile,
                tuple(more),
                command,
            )
        except train.Interrupted as interrupted:
            observer.say(f"stopped, {interrupted}; nothing is lost. To go on: {command}")
            return 128 + (asked or [signal.SIGTERM])[0]  # another process may have been the one that was asked
        if only_cache:
            observer.say(f"the caches are in {options.cache or folder / 'cache'}/; mmkd run {file} reads them")
            return 0
        table = (folder / "table.txt").read_text().rstrip()
        observer.say(f"\n{table}\n\nfigures, events and checkpoints are in {folder}/")
    return 0


def _explain(file: str, words: list[str]) -> None:
    from mmkd_jax import experiment as experiments
    from mmkd_jax import explain

    experiment = experiments.load(file)
    _, config, numbers = _parse(experiment, words, f"mmkd explain {file}")
    parts = experiment.parts(config)
    print(explain.text(parts, experiments.check(parts, numbers)))


def _losses(words: list[str]) -> None:
    from mmkd_jax import catalogue

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
    from mmkd_jax import terminal
    from mmkd_jax.evaluate import paper_table
    from mmkd_jax.tables import run

    match words:
        case ["list"]:
            return print(run.listed())
        case ["page", folder]:
            return print(paper_table.page(pathlib.Path(folder)))
        case [name, *rest] if not name.startswith("-"):
            pass
        case _:
            raise UserError(_TABLE)
    parsed = tyro.cli(_TableOptions, args=rest, prog=f"mmkd table {name}")
    terminal.device_per_core()
    terminal.keep_programs()
    file = run.find(name)
    folder = parsed.out or pathlib.Path("runs") / "tables" / (file.stem + "_quick" * parsed.quick)

    def say(line):
        print(line, file=sys.stderr)

    try:
        cells = run.run(file, folder, parsed.seeds, parsed.quick, say)
    except KeyboardInterrupt:
        say(f"interrupted; the seeds so far are in {folder}/. To go on: mmkd table {' '.join(words)}")
        raise
    if parsed.json:
        print(paper_table.as_json(cells))
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

    from mmkd_jax import run_folder

    found = run_folder.runs(folder)
    if not found:
        raise UserError(f"there is no run in {folder}/: mmkd runs DIR looks elsewhere")
    table = Table()
    for head in ("run", "state", "at", "best on validation", "to go on"):
        table.add_column(head, overflow="fold")
    for row in found:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 200).print(table)


if __name__ == "__main__":
    main()
