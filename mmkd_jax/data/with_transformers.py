"""What transformers makes of files that someone else wrote, asked in a child process."""

import dataclasses
import json
import pathlib
from typing import Any

from mmkd_jax import child_process
from mmkd_jax.errors import UserError

_MORE = 20.0
"""Seconds beyond those of our own readers: transformers converts large vocabularies in Python."""
_CHILD = pathlib.Path(__file__).with_name("transformers_child.py")


def ask(script: str, data: bytes, name: str, limits: child_process.Limits) -> dict[str, Any]:
    """Return the answer of a script in this folder, which imports transformers.

    Args:
        script: file name of the script; see `transformers_child`.
        data: its standard input.
        name: what is read, used in messages.
        limits: bounds of the child process, which has 20 seconds more; they begin when it has imported transformers.

    Returns:
        What it answers; or `refused`, why it raised an error.

    Raises:
        UserError: the child process exceeds the limits or crashes.
    """
    script = str(_CHILD.with_name(script))
    more = dataclasses.replace(limits, seconds=limits.seconds + _MORE)
    printed = child_process.run(_CHILD, data, name, more, script, loads="transformers")
    try:
        return json.loads(printed.decode().splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise UserError(f"{name} is damaged ({error}): fetch it again") from error
