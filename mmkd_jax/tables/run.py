"""Running a paper table: seeds a few at a time, each kept on disk as soon as it is there."""

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

from mmkd_jax import files, population, run_folder
from mmkd_jax.errors import UserError, choices
from mmkd_jax.evaluate import paper_table
from mmkd_jax.python_file import module
from mmkd_jax.tables.table import Table, cells


def find(name: str) -> pathlib.Path:
    """The file of a table: its path, or its name under experiments/tables.

    Raises:
        UserError: there is none; the message lists those that exist.
    """
    path = pathlib.Path(name)
    if path.suffix == ".py":
        return path
    known = all_tables()
    if name not in known:
        where = "none here: run it where experiments/tables is" if not known else choices(known)
        raise UserError(f"no table {name!r}; there are: {where}")
    return known[name]


def all_tables() -> dict[str, pathlib.Path]:
    """Name -> file of each table, of the current folder or else of the checkout that this package is in."""
    for root in (pathlib.Path.cwd(), pathlib.Path(__file__).parents[2]):
        if found := sorted((root / "experiments" / "tables").glob("*.py")):
            return {p.stem.replace("_", "-"): p for p in found}
    return {}


def listed() -> str:
    """A line for each table: its name and the first line of its file."""
    found = all_tables()
    width = max(map(len, found), default=0)
    first = {n: (ast.get_docstring(ast.parse(p.read_text())) or "").partition("\n")[0] for n, p in found.items()}
    return "\n".join(f"{name:<{width}}  {line}" for name, line in first.items())


def run(
    file: pathlib.Path,
    folder: pathlib.Path,
    seeds: int | None = None,
    quick: bool = False,
    say: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Train what is not there yet, write the table, and return its cells.

    Args:
        file: defines `table`.
        folder: gets `seeds.json`, `table.{json,md,txt}` and the figure.
        seeds: how many, if other than the table's.
        quick: few seeds.
        say: called with what a person should know.

    Raises:
        UserError: no such file, or a folder of another version of it.
    """
    table = module(file, "table", ("table",)).table
    if not isinstance(table, Table):
        raise UserError(f"table {file}: table must be a tables.Table, not {type(table).__name__}")
    if seeds is not None and seeds < 1:
        raise UserError(f"--seeds {seeds}: expected at least 1")
    code = _identity(file)
    if quick and isinstance(table.quick, Table):
        table, code, quick = table.quick, f"{code} quick", False
    kept = folder / "seeds.json"
    found = json.loads(kept.read_text()) if kept.exists() else {"code": code, "seconds": 0.0, "scores": {}}
    if found["code"] != code:
        raise UserError(f"{folder} holds seeds of another version of {file}: remove it, or choose another with --out")
    shared = functools.cache(lambda: table.shared(partial(_keep, folder, code)))
    compiled: dict[str, Any] = {}
    wanted = {row: _wanted(table, row, seeds, quick) for row in table.rows}
    width = table.narrow if jax.default_backend() == "cpu" else table.width
    for number, (row, arguments) in enumerate(table.rows.items(), 1):
        own = found["scores"].setdefault(row, {})
        fixed = {k: v for k, v in arguments.items() if k in table.static}
        free = {k: np.asarray(v) for k, v in arguments.items() if k not in table.static}
        devices = jax.device_count()
        together = -(-min(table.together, wanted[row]) // devices) * devices
        while (done := min(map(len, own.values()), default=0)) < wanted[row]:
            begun = time.perf_counter()
            if (program := compiled.get(repr(fixed))) is None:
                program = compiled[repr(fixed)] = population.members(partial(_member, table.member, fixed), width)
            now = np.arange(done, done + together, dtype=np.int32)
            each = program(shared(), now, {k: np.repeat(v[None], together, 0) for k, v in free.items()})
            each = {k: np.asarray(v, np.float64) for k, v in each.items()}
            if set(each) - set(table.columns):
                raise UserError(f"table {file}: member gives {choices(each)}; the columns are {choices(table.columns)}")
            for column, values in each.items():
                own.setdefault(column, []).extend(round(float(v), 6) for v in values)
            found |= {"seconds": found["seconds"] + time.perf_counter() - begun, "made": run_folder.made()}
            files.write(kept, json.dumps(found) + "\n")
            so_far = f"{min(done + together, wanted[row])} of {wanted[row]} seeds"
            say(f"{row} ({number} of {len(table.rows)}): {so_far}, {found['seconds']:.0f} s")
    scores = {row: {c: v[: wanted[row]] for c, v in own.items()} for row, own in found["scores"].items()}
    every = cells(table, scores)
    paper_table.write(folder, table, every, found["seconds"], found["made"])
    return every


def _identity(file):
    """Of what members compute: published figures, notes and comments may change without training again."""
    tree = ast.parse(file.read_text())
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Table":
            call.keywords = [k for k in call.keywords if k.arg in ("rows", "member", "shared", "static")]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]


def _member(member, fixed, shared, seed, free):
    return member(shared, seed, **fixed, **free)


def _wanted(table, row, seeds, quick):
    if isinstance(table.seeds, Mapping):
        return min(table.seeds[row], seeds or table.seeds[row])
    return seeds or (table.quick if quick else table.seeds)


def _keep(folder, code, name, make):
    """What `make` gives, from the disk where it is there."""
    path = folder / f"{name}-{code[:8]}{'-quick' * code.endswith('quick')}.npz"
    if not path.exists():
        packed = io.BytesIO()
        np.savez(packed, allow_pickle=False, **{k: np.asarray(v) for k, v in make().items()})
        files.write(path, packed.getvalue())
    with np.load(path) as held:
        return dict(held)
