"""Python files of the user: what they define, and slips in them told in one line."""

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


def module(path: pathlib.Path, kind: str, wanted: tuple[str, ...]) -> Any:
    """What a Python file defines.

    Args:
        path: of the file.
        kind: what it is, for messages.
        wanted: names that it must define.

    Raises:
        UserError: there is no such file, a slip in it, or it lacks a name.
    """
    if not path.is_file():
        near = path.parent if path.parent.is_dir() else pathlib.Path(".")
        raise UserError(f"no {kind} {path}; {near}/ has: {choices(p.name for p in near.glob('*.py'))}")
    name = f"{kind}_{path.stem}"
    made = types.ModuleType(name)
    made.__file__ = str(path)
    sys.modules[name] = made  # dataclasses look their module up
    with told(path, kind):
        importlib.machinery.SourceFileLoader(name, str(path)).exec_module(made)
    if missing := [n for n in wanted if not hasattr(made, n)]:
        raise UserError(f"{kind} {path} does not define {choices(missing)}")
    return made


@contextlib.contextmanager
def told(path: pathlib.Path, kind: str) -> Iterator[None]:
    """A slip in an experiment's file, or in a call that it makes, is told in one line; our bugs keep their trace."""
    try:
        yield
    except SyntaxError as error:
        if error.filename != str(path):
            raise
        raise UserError(f"{kind} {path}:{error.lineno}: {error.msg}") from error
    except (AttributeError, ImportError, NameError, TypeError) as error:
        frames = traceback.extract_tb(error.__traceback__)
        mine = [i for i, frame in enumerate(frames) if frame.filename == str(path)]
        if not mine or len(frames) - 1 - mine[-1] > 1:
            raise
        raise UserError(f"{kind} {path}:{frames[mine[-1]].lineno}: {error}{_close(error)}") from error


def _close(error: Exception) -> str:
    """Names close to one that a module of ours has not."""
    word = re.search(r"(?:attribute|import name) '(\w+)'", str(error))
    of = error.name if isinstance(error, ImportError) else getattr(getattr(error, "obj", None), "__name__", "")
    if word is None or of not in {f"mmkd_jax.{n}" for n in ("losses", "methods", "recipes", "schemes")}:
        return ""
    names = [n for n, f in vars(sys.modules[of]).items() if inspect.isfunction(f)]
    near = difflib.get_close_matches(word[1], names, 4, 0.5)
    return f"; close to it: {', '.join(near)}" if near else f"; it has: {choices(names)}"
