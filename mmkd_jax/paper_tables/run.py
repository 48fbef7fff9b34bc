"""Runner of paper tables: trains a few seeds at a time and saves each group to disk."""

import ast
import io
import pathlib
import time
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from mmkd_jax import files
from mmkd_jax.core import population
from mmkd_jax.data.dataset import content_hash
from mmkd_jax.errors import UserError, choices
from mmkd_jax.experiment import run_folder
from mmkd_jax.experiment.python_file import module
from mmkd_jax.experiment.source_files import source_paths, syntax
from mmkd_jax.paper_tables import render
from mmkd_jax.paper_tables.table import Table, cells
from mmkd_jax.training.identity import differences
from mmkd_jax.training.lowered import program_hash


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
    source = _source(file)
    if quick and isinstance(table.quick, Table):
        table, quick, source = table.quick, False, f"{source}-quick"
    path = folder / "seeds.json"
    if path.is_file() and path.read_bytes().startswith(b'{"code"'):
        raise UserError(f"{folder} was written by an earlier mmkd_jax: choose another folder with --out")
    saved = files.recover_json(path, log) or {"seconds": 0.0, "rows": {}, "scores": {}}
    shared = table.shared(partial(_cached, folder, source, log))
    own = {} if table.whole is None else {"whole": files.digest(syntax(file))}  # it is Python, and no program
    identities = {row: _identity(table, arguments, shared, own) for row, arguments in table.rows.items()}
    _check_rows(folder, saved["rows"], identities)
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
            each = program(shared, members, {k: np.repeat(v[None], together, 0) for k, v in free.items()})
            each = _columns(table, jax.device_get(each), arguments)
            if set(each) - set(table.columns):
                raise UserError(f"table {file}: member returns {choices(each)}; columns are {choices(table.columns)}")
            for column, values in each.items():
                if len(wrong := np.flatnonzero(~np.isfinite(values))):
                    raise UserError(
                        f"table {file}, row {row!r}: {column!r} of seed {done + wrong[0]} is {values[wrong[0]]}: check "
                        "the learning rate and the data"
                    )
                values_of.setdefault(column, []).extend(round(float(v), 6) for v in values)
            saved["rows"][row] = identities[row]
            saved |= {"seconds": saved["seconds"] + time.perf_counter() - began, "made": run_folder.provenance()}
            files.write_json(path, saved)
            so_far = f"{min(done + together, wanted[row])} of {wanted[row]} seeds"
            log(f"{row} ({number} of {len(table.rows)}): {so_far}, {saved['seconds']:.0f} s")
    scores = {row: {c: v[: wanted[row]] for c, v in saved["scores"][row].items()} for row in table.rows}
    all_cells = cells(table, scores)
    render.write(folder, table, all_cells, saved["seconds"], saved["made"])
    return all_cells


def _identity(table, arguments, shared, own) -> dict[str, Any]:
    """Identity of a row: the program of a member, the row's arguments, and the arrays that all members share."""
    fixed = {k: v for k, v in arguments.items() if k in table.static}
    free = {k: np.asarray(v) for k, v in arguments.items() if k not in table.static}
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), np.asarray(x).dtype), (shared, free))
    seed = jax.ShapeDtypeStruct((), np.int32)
    member = program_hash(partial(_member, table.member, fixed), shapes[0], seed, shapes[1])
    named = {jax.tree_util.keystr(p): np.asarray(x) for p, x in jax.tree.leaves_with_path(shared)}
    settings = {k: v.tolist() if isinstance(v, np.ndarray) else repr(v) for k, v in {**fixed, **free}.items()}
    code = {"jax": jax.__version__, "member": member, **own}
    return {"code": code, "settings": settings, "data": {"shared": content_hash(named)}}


def _check_rows(folder, saved, identities) -> None:
    """Raise, before anything is trained, for rows whose saved seeds are of something else."""
    wrong = {}
    for row in [row for row in identities if row in saved]:
        if lines := [x for lines in differences(saved[row], identities[row]).values() for x in lines]:
            wrong[row] = "; ".join(lines)
    if wrong:
        what = "; ".join(f"{row!r}: {text}" for row, text in list(wrong.items())[:4])
        raise UserError(
            f"{folder} has seeds of another version of these rows: {what}{'; …' * (len(wrong) > 4)}. Revert the "
            "change, remove the folder, or choose another one with --out"
        )


def _source(file) -> str:
    """Digest of what could change shared arrays: the package, the file and modules beside it, without docstrings."""
    places = source_paths(file)
    return files.digest([jax.__version__, {name: syntax(path) for name, path in places.items()}])[:8]


def _member(member, fixed, shared, seed, free):
    return member(shared, seed, **fixed, **free)


def _columns(table, each, arguments) -> dict[str, Any]:
    """Return the values of each seed, by column."""
    if table.whole is not None:
        seeds = range(len(jax.tree.leaves(each)[0]))
        found = [table.whole(jax.tree.map(lambda x, i=i: x[i], each), **arguments) for i in seeds]
        each = {k: [values[k] for values in found] for k in found[0]}
    return {k: np.asarray(v, np.float64) for k, v in each.items()}


def _wanted(table, row, seeds, quick):
    if isinstance(table.seeds, Mapping):
        return min(table.seeds[row], seeds or table.seeds[row])
    return seeds or (table.quick if quick else table.seeds)


def _cached(folder, source, log, name, make):
    """Return `make()`, cached on disk and verified by a hash."""
    path = folder / f"{name}-{source}.npz"
    for _ in range(2):
        if path.exists():
            try:
                with np.load(path) as arrays:
                    found = dict(arrays)
                if str(found.pop("sha256", "")) == content_hash(found):
                    return found
            except (OSError, ValueError, KeyError, zipfile.BadZipFile):
                pass
            log(f"{path} is damaged and kept as {files.set_aside(path).name}")
        made = {k: np.asarray(v) for k, v in make().items()}
        packed = io.BytesIO()
        np.savez(packed, allow_pickle=False, sha256=np.asarray(content_hash(made)), **made)
        files.write(path, packed.getvalue())
    raise UserError(f"{path} cannot be read back: check the disk")
