"""The `mmkd` command: dispatch, tables, losses and data sets."""

import dataclasses
import difflib
import io
import logging
import pathlib
import shlex
import sys

import tyro

import mmkd_jax
from mmkd_jax import files
from mmkd_jax.cli import exporting, parsing, predicting, running, terminal
from mmkd_jax.errors import UserError

_USAGE = """usage: mmkd COMMAND …

  run FILE            run or resume an experiment (--help shows its options)
  cache FILE          compute the teachers' outputs once and store them on disk for `run FILE`
  predict RUN NAME    predict new rows with a trained student: --INPUT VALUE … or --table FILE
  export RUN NAME     export a trained student: --to stablehlo, onnx, safetensors or hf
  measure RUN         cost of teacher and students: parameters, FLOPs, bytes, latency, memory
  explain FILE        summarize an experiment from shapes alone, without training
  table NAME          retrain a paper's table and compare it with the published results; `table list` lists them
  losses              list losses and methods; NAME prints one, --json and --markdown print all
  runs [DIR]          list run folders: state, step, best metric, command to resume
  data list           list the data sets
  data info NAME      describe a data set: contents and sources
  data prepare NAME   build a data set from its sources and verify it against the recorded version

  --debug             print the traceback of errors
  --version           print the version"""
_COMMANDS = ("run", "cache", "predict", "export", "measure", "explain", "table", "losses", "runs", "data")
_LOSSES = "usage: mmkd losses [NAME | --json | --markdown]"
_TABLE = "usage: mmkd table list | page DIR | NAME [--seeds N] [--quick] [--out DIR] [--json]"
_RUNS = "usage: mmkd runs [DIR]: list the run folders in DIR (default runs), or DIR itself"
_DATA = "usage: mmkd data list | info NAME | prepare NAME [--out DIR]"


def main(arguments: list[str] | None = None) -> None:
    """Run the command `mmkd`; exits with 0, 2 (user error), 130 (Ctrl-C) or 143 (SIGTERM)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character shows "?"
            stream.reconfigure(errors="replace")
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
                tyro.cli(running.Options, args=["--help"], prog=f"mmkd {command} FILE", description=more)
            case ["--version"]:
                print(f"mmkd_jax {mmkd_jax.__version__}")
            case ["runs", *rest] if {"-h", "--help"} & set(rest):
                print(_RUNS)
            case ["predict"] | ["predict", "-h" | "--help"]:
                print(predicting.USAGE)
            case ["predict", folder, *_] if not folder.startswith("-"):
                predicting.predict(words[1:])
            case ["export", folder, name, *rest] if not {folder[:1], name[:1]} & {"-"}:
                exporting.export(folder, name, rest)
            case ["export", *_]:
                raise UserError(exporting.EXPORT)
            case ["measure", folder, *rest] if not folder.startswith("-"):
                exporting.measure(folder, rest)
            case ["measure", *_]:
                raise UserError(exporting.MEASURE)
            case ["losses", *rest] if {"-h", "--help"} & set(rest):
                print(_LOSSES)
            case ["data", *rest] if {"-h", "--help"} & set(rest):
                print(_DATA)
            case ["table", *rest] if {"-h", "--help"} & set(rest):
                print(_TABLE)
            case ["table", *rest]:
                _table(rest)
            case ["run", file, *rest] if not file.startswith("-"):
                code = running.run(file, rest)
            case ["cache", file, *rest] if not file.startswith("-"):
                code = running.run(file, rest, only_cache=True)
            case ["explain", file, *rest] if not file.startswith("-"):
                running.explain(file, rest)
            case ["losses", *rest]:
                _losses(rest)
            case ["data", *rest]:
                _data(rest)
            case ["runs"] | ["runs", _] if not words[-1].startswith("-"):
                _runs(pathlib.Path(words[1] if len(words) > 1 else "runs"))
            case ["runs", *_]:
                raise UserError(_RUNS)
            case ["predict", *_]:
                raise UserError(
                    "predict needs a run and a training: mmkd predict RUN TRAINING …; see mmkd predict --help"
                )
            case ["run" | "cache" | "explain" as command, *_]:
                raise UserError(f"{command} needs an experiment file: mmkd {command} FILE …; see mmkd {command} --help")
            case [command, *_]:
                near = difflib.get_close_matches(command, _COMMANDS, 1)
                raise UserError(
                    f"unknown command {command!r}{f', close to {near[0]!r}' if near else ''}; there are: "
                    f"{', '.join(_COMMANDS)}; see mmkd --help"
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
        terminal.discard_output()
    code = max(code, _flushed())
    sys.exit(code)


def _flushed() -> int:
    """Write what is still buffered; returns 2 if standard output cannot be written, such as on a full disk."""
    if sys.stdout is None:  # closed by the caller
        return 0
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        terminal.discard_output()
    except OSError as error:
        print(f"mmkd: standard output cannot be written: {error.strerror}", file=sys.stderr)
        terminal.discard_output()
        return 2
    return 0


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
    parsed = parsing.parsed(_TableOptions, rest, f"mmkd table {name}")
    sharding.device_per_core()
    terminal.keep_programs()
    file = run.find(name)
    folder = parsed.out or pathlib.Path("runs") / "tables" / (file.stem + "_quick" * parsed.quick)

    def log(line):
        print(line, file=sys.stderr)

    try:
        cells = run.run(file, folder, parsed.seeds, parsed.quick, log)
    except KeyboardInterrupt:
        log(f"interrupted; finished seeds are in {folder}/. To resume: {shlex.join(['mmkd', 'table', *words])}")
        raise
    if parsed.json:
        print(render.as_json(cells))
    else:
        print(files.read(folder / "table.txt").rstrip() + f"\n\nseeds and figures are in {folder}/")


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
