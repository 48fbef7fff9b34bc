"""Runner of paper tables: trains a few seeds at a time and saves each group to disk."""

import ast
import functools
import hashlib
import io
import json
import pathlib
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from mmkd_jax import files
from mmkd_jax.core import population
from mmkd_jax.errors import UserError, choices
from mmkd_jax.experiment import run_folder
from mmkd_jax.experiment.python_file import module
from mmkd_jax.paper_tables import render
from mmkd_jax.paper_tables.table import Table, cells


def find(name: str) -> pathlib.Path:
    """Return the file of a table, given its path or its name under experiments/tables.

    Raises:
        UserError: the table does not exist; the message lists the available tables.
    """
    path = pathlib.Path(name)
    if path.suffix == ".py":
        return path
    known = all_tables()
    if name not in known:
        available = choices(known) if known else "none; run from a checkout that contains experiments/tables"
        raise UserError(f"unknown table {name!r}; available: {available}")
    return known[name]


def all_tables() -> dict[str, pathlib.Path]:
    """Return name -> file of all tables, from the current folder or else from the checkout of this package."""
    for root in (pathlib.Path.cwd(), pathlib.Path(__file__).parents[2]):
        if tables := sorted((root / "experiments" / "tables").glob("*.py")):
            return {p.stem.replace("_", "-"): p for p in tables}
    return {}


def listed() -> str:
    """List the tables: name and first docstring line of each."""
    tables = all_tables()
    width = max(map(len, tables), default=0)
    first = {n: (ast.get_docstring(ast.parse(p.read_bytes())) or "").partition("\n")[0] for n, p in tables.items()}
    return "\n".join(f"{name:<{width}}  {line}" for name, line in first.items())


def run(
    file: pathlib.Path,
    folder: pathlib.Path,
    seeds: int | None = None,
    quick: bool = False,
    log: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Train the missing seeds, write the table, and return its cells.

    Args:
        file: Python file that defines `table`.
        folder: output folder for `seeds.json`, `table.{json,md,txt}` and the figure.
        seeds: number of seeds, overriding the table's.
        quick: run the table's quick version.
        log: called with progress messages.

    Raises:
        UserError: the file does not exist, or the folder contains seeds of another version of it.
    """
    table = module(file, "table", ("table",)).table
    if not isinstance(table, Table):
        raise UserError(f"table {file}: `table` must be an mmkd.paper_tables.Table, not {type(table).__name__}")
    if seeds is not None and seeds < 1:
        raise UserError(f"--seeds {seeds}: expected at least 1")
    code = _identity(file)
    if quick and isinstance(table.quick, Table):
        table, code, quick = table.quick, f"{code} quick", False
    path = folder / "seeds.json"
    saved = files.read_json(path) if path.exists() else {"code": code, "seconds": 0.0, "scores": {}}
    if saved["code"] != code:
        raise UserError(
            f"{folder} has seeds of another version of {file}: remove it, or choose another folder with --out"
        )
    shared = functools.cache(lambda: table.shared(partial(_cached, folder, code)))
    compiled: dict[str, Any] = {}
    wanted = {row: _wanted(table, row, seeds, quick) for row in table.rows}
    width = table.narrow if jax.default_backend() == "cpu" else table.width
    for number, (row, arguments) in enumerate(table.rows.items(), 1):
        values_of = saved["scores"].setdefault(row, {})
        fixed = {k: v for k, v in arguments.items() if k in table.static}
        free = {k: np.asarray(v) for k, v in arguments.items() if k not in table.static}
        devices = jax.device_count()
        together = -(-min(table.together, wanted[row]) // devices) * devices
        while (done := min(map(len, values_of.values()), default=0)) < wanted[row]:
            began = time.perf_counter()
            if (program := compiled.get(repr(fixed))) is None:
                program = compiled[repr(fixed)] = population.members(partial(_member, table.member, fixed), width)
            members = np.arange(done, done + together, dtype=np.int32)
            each = program(shared(), members, {k: np.repeat(v[None], together, 0) for k, v in free.items()})
            each = {k: np.asarray(v, np.float64) for k, v in each.items()}
            if set(each) - set(table.columns):
                raise UserError(f"table {file}: member returns {choices(each)}; columns are {choices(table.columns)}")
            for column, values in each.items():
                if len(wrong := np.flatnonzero(~np.isfinite(values))):
                    raise UserError(
                        f"table {file}, row {row!r}: {column!r} of seed {done + wrong[0]} is {values[wrong[0]]}: check "
                        "the learning rate and the data"
                    )
                values_of.setdefault(column, []).extend(round(float(v), 6) for v in values)
            saved |= {"seconds": saved["seconds"] + time.perf_counter() - began, "made": run_folder.provenance()}
            files.write(path, json.dumps(saved) + "\n")
            so_far = f"{min(done + together, wanted[row])} of {wanted[row]} seeds"
            log(f"{row} ({number} of {len(table.rows)}): {so_far}, {saved['seconds']:.0f} s")
    scores = {row: {c: v[: wanted[row]] for c, v in columns.items()} for row, columns in saved["scores"].items()}
    all_cells = cells(table, scores)
    render.write(folder, table, all_cells, saved["seconds"], saved["made"])
    return all_cells


def _identity(file):
    """Hash of the code that members run; published figures, notes and comments may change without retraining."""
    tree = ast.parse(file.read_bytes())
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] == "Table":
            call.keywords = [k for k in call.keywords if k.arg in ("rows", "member", "shared", "static")]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]


def _member(member, fixed, shared, seed, free):
    return member(shared, seed, **fixed, **free)


def _wanted(table, row, seeds, quick):
    if isinstance(table.seeds, Mapping):
        return min(table.seeds[row], seeds or table.seeds[row])
    return seeds or (table.quick if quick else table.seeds)


def _cached(folder, code, name, make):
    """Return `make()`, cached on disk."""
    path = folder / f"{name}-{code[:8]}{'-quick' * code.endswith('quick')}.npz"
    if not path.exists():
        packed = io.BytesIO()
        np.savez(packed, allow_pickle=False, **{k: np.asarray(v) for k, v in make().items()})
        files.write(path, packed.getvalue())
    with np.load(path) as arrays:
        return dict(arrays)
