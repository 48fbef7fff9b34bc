"""Options of a command as a dataclass, parsed by tyro, with errors of one line."""

import contextlib
import io
import re
from typing import Any

import tyro

from mmkd_jax import renamed
from mmkd_jax.errors import UserError


def parsed(kind: Any, words: list[str], prog: str, **options: Any) -> Any:
    """Parse words of the command line into a dataclass.

    Args:
        kind: the dataclass.
        words: the words after the command.
        prog: the command, as in help and errors.
        options: further arguments of `tyro.cli`.

    Raises:
        UserError: an unknown option, or an invalid value; names it, and similar options.
        SystemExit: `--help` has been printed.
    """
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(kind, args=words, prog=prog, **options)
    except SystemExit as exit:
        if not exit.code:
            raise
        message = _line(box.getvalue())
        raise UserError(f"{message}; see {prog} --help{renamed.hint(message)}") from None


def _line(box: str) -> str:
    r"""Return the message of tyro's box of several lines, with the options that it suggests, as one line.

    Example:
        >>> _line("╭ ─ ╮\n│ Unrecognized options: --seed │\n│ ────── │\n│ Perhaps you meant: │\n│   --seeds INT │")
        'unknown option --seed (close to --seeds)'
        >>> _line("Value error\n---\nError parsing --seeds: not a\nnumber\n---\nArgument helptext:\n  --seeds INT")
        '--seeds: not a number, expected INT'
    """
    sections: list[list[str]] = [[]]
    for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines():
        text = line.strip().strip("│").strip()
        if text and not text.strip("─-"):
            sections.append([])
        elif not text.startswith(("╭", "╰")):
            sections[-1].append(text)
    if "╭" not in box:  # the locale is ASCII: the title has a section
        del sections[0]
    message, *others = (" ".join(lines).strip() for lines in sections)
    message = message.partition(" Got errors:")[0].removeprefix("Error parsing ").strip(" .")
    if message.startswith("Unrecognized options: "):
        words = message.removeprefix("Unrecognized options: ").split(", ")
        named = [w for w in words if w.startswith("-")] or words  # the others may be their values
        message = f"unknown option{'s' * (len(named) > 1)} {', '.join(named)}"
    message = re.sub(r"Missing value for argument '(\S+)'\. Expected \d+ values?", r"\1 needs a value", message)
    message = re.sub(r"invalid literal for int\(\) with base 10: ", "invalid value ", message)
    message = re.sub(r"could not convert string to float: ", "invalid value ", message)
    message = re.sub(r"no type matching .* could be instantiated from \[(.*)\]", r"invalid value \1", message)
    for other in others:
        options = re.findall(r"(?<!\S)(--[\w.-]+)(?!\S*:) ?([A-Z{][^ ]*)?", other)
        if re.match(r"Perhaps|Arguments? similar|Similar", other) and options:
            message += f" (close to {', '.join(name for name, _ in options if not name.startswith('--no-'))})"
        elif other.startswith("Argument helptext") and options:
            message += f", expected {options[0][1].removeprefix('{None}|')}"
    return message
