"""Source files behind a result: of the package, of the experiment, and of modules beside it."""

import ast
import hashlib
import pathlib
import sys

from mmkd_jax import files

_PACKAGE = pathlib.Path(__file__).parents[1]


def source_files(experiment: str | pathlib.Path = "") -> dict[str, str]:
    """Return name -> first 16 hexadecimal digits of the SHA-256, of every file of `source_paths`."""
    return {name: hashlib.sha256(p.read_bytes()).hexdigest()[:16] for name, p in source_paths(experiment).items()}


def source_paths(experiment: str | pathlib.Path = "") -> dict[str, pathlib.Path]:
    """Return name -> path of every Python file that a result depends on.

    Args:
        experiment: the experiment's file; "" for one that is defined in a notebook.
    """
    found = {f"mmkd_jax/{p.relative_to(_PACKAGE).as_posix()}": p for p in _PACKAGE.rglob("*.py")}
    if experiment:
        home = pathlib.Path(experiment).resolve().parent
        beside = [pathlib.Path(f).resolve() for m in list(sys.modules.values()) if (f := getattr(m, "__file__", None))]
        own = [pathlib.Path(experiment).resolve(), *(p for p in beside if p.suffix == ".py" and p.parent == home)]
        found |= {p.name: p for p in own}
    return dict(sorted(found.items()))


def syntax(path: pathlib.Path) -> str:
    """Return the syntax tree of a file, without comments and docstrings."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            del node.body[0]
    return ast.dump(tree)


def record_sources(folder: pathlib.Path, sources: dict[str, str], log: files.Log) -> str:
    """Add source files to `code.json` of a run folder, and return their digest."""
    digest = files.digest(sources)[:16]
    known = files.recover_json(folder / "code.json", log) or {}
    if digest not in known:
        files.write_json(folder / "code.json", {**known, digest: sources})
    return digest


def changed_files(folder: pathlib.Path, before: str, now: str) -> list[str]:
    """Return the names of files that differ between two digests of `code.json`."""
    try:
        known = files.read_json(folder / "code.json")
    except (FileNotFoundError, files.Damaged):
        return []
    a, b = known.get(before, {}), known.get(now, {})
    return sorted(k for k in a.keys() & b.keys() if a[k] != b[k])
