"""Import of the user's Python files, with one-line error messages."""

import contextlib
import difflib
import importlib.machinery
import inspect
import pathlib
import re
import sys
import traceback
import types
from collections.abc import Iterator
from typing import Any

from mmkd_jax.errors import UserError, choices
from mmkd_jax.renamed import RENAMED, hint


def module(path: pathlib.Path, kind: str, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> Any:
    """Import a Python file and return its module.

    Args:
        path: path of the file.
        kind: kind of the file, for error messages, such as "experiment".
        required: names that it must define.
        optional: names that it may define.

    Raises:
        UserError: the file does not exist, fails to import, lacks a name, or has one in other case.
    """
    if not path.is_file():
        near = path.parent if path.parent.is_dir() else pathlib.Path(".")
        raise UserError(f"no {kind} {path}; {near}/ has: {choices(p.name for p in near.glob('*.py'))}")
    _beside(path.resolve().parent)
    name = f"{kind}_{path.stem}"
    loaded = types.ModuleType(name)
    loaded.__file__ = str(path)
    sys.modules[name] = loaded  # needed by dataclasses
    with one_line_errors(path, kind):
        importlib.machinery.SourceFileLoader(name, str(path)).exec_module(loaded)
    for name in vars(loaded):
        for meant in (*required, *optional):
            if name != meant and name.casefold() == meant and not hasattr(loaded, meant) and name[1:] != meant[1:]:
                raise UserError(f"{kind} {path} defines {name}, which is not read: write {meant}")
    if missing := [n for n in required if not hasattr(loaded, n)]:
        old = "".join(hint(repr(n)) for n in vars(loaded) if RENAMED.get(n) in missing)
        needed = f"; it needs {choices(required)}" if len(required) > len(missing) else ""
        raise UserError(f"{kind} {path} does not define {choices(missing)}{old}{needed}")
    return loaded


def _beside(folder: pathlib.Path) -> None:
    """Make modules in the file's folder importable, as `python FILE` does, and unload modules of other folders."""
    for name, loaded in list(sys.modules.items()):
        file = getattr(loaded, "__file__", None)
        if not file or "." in name:
            continue
        home, hidden = pathlib.Path(file).parent, (folder / pathlib.Path(file).name).is_file()
        if hidden and home != folder and str(home) in sys.path[:1]:
            del sys.modules[name]
    if str(folder) not in sys.path[:1]:
        sys.path.insert(0, str(folder))


@contextlib.contextmanager
def one_line_errors(path: pathlib.Path, kind: str) -> Iterator[None]:
    """Convert errors in a user's file, or in a call from it, to a one-line `UserError`; other errors propagate."""
    try:
        yield
    except SyntaxError as error:
        if error.filename != str(path):
            raise
        raise UserError(f"{kind} {path}:{error.lineno}: {error.msg}") from error
    except (AttributeError, ImportError, NameError, TypeError) as error:
        frames = traceback.extract_tb(error.__traceback__)
        in_file = [i for i, frame in enumerate(frames) if frame.filename == str(path)]
        if not in_file or len(frames) - 1 - in_file[-1] > 1:
            raise
        renamed = "" if " is now " in str(error) else hint(str(error))
        raise UserError(f"{kind} {path}:{frames[in_file[-1]].lineno}: {error}{_close(error)}{renamed}") from error


def _close(error: Exception) -> str:
    """Suggest similar names for a missing attribute of a mmkd_jax namespace."""
    word = re.search(r"(?:attribute|import name) '(\w+)'", str(error))
    of = error.name if isinstance(error, ImportError) else getattr(getattr(error, "obj", None), "__name__", "")
    if word is None or of not in {f"mmkd_jax.{n}" for n in ("losses", "methods", "recipes", "gradients")}:
        return ""
    names = [n for n, f in vars(sys.modules[of]).items() if inspect.isfunction(f)]
    near = difflib.get_close_matches(word[1], names, 4, 0.5)
    return f"; close to it: {', '.join(near)}" if near else f"; it has: {choices(names)}"
