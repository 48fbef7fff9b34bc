"""Files that someone else wrote: regular files only, whose size is known before memory is asked for."""

import json
import os
import stat
from typing import Any

from mmkd_jax.errors import UserError, shown
from mmkd_jax.looks_like import not_downloaded

MOST_JSON = 2**24
"""Maximum size of a foreign JSON file, in bytes: 16 MiB of `[],[],…` need 400 MiB as objects."""


def size_of(path: str | os.PathLike) -> int:
    """Return the size in bytes of a file that someone else wrote, without opening it.

    Raises:
        UserError: the file is missing, cannot be read, or is a folder, pipe or device: opening a pipe would wait for
            ever, and a device has no end.

    Example:
        >>> size_of("/dev/zero")
        Traceback (most recent call last):
        mmkd_jax.errors.UserError: /dev/zero is not a regular file
    """
    try:
        status = os.stat(path)
        readable = os.access(path, os.R_OK)
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or shown(str(error))}") from None
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path} is {'a folder' if stat.S_ISDIR(status.st_mode) else 'not a regular file'}")
    if not readable:
        raise UserError(f"{path} cannot be read: permission denied")
    return status.st_size


def read_bytes(path: str | os.PathLike, most: int = 2**31) -> bytes:
    """Read a file that someone else wrote.

    Args:
        path: path of the file.
        most: maximum size in bytes; larger files are refused before they are read.

    Raises:
        UserError: the file is missing, cannot be read, is larger, or is a folder, pipe or device.
    """
    size = size_of(path)
    if size > most:
        raise UserError(f"{path} has {size:,} bytes; expected at most {most:,}")
    try:
        with open(path, "rb") as file:
            return file.read(size)
    except (OSError, MemoryError) as error:
        raise UserError(f"{path} cannot be read: {shown(str(error) or 'no memory')}") from error


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """Read a JSON object that someone else wrote, in UTF-8 with or without a byte order mark.

    Raises:
        UserError: an error of `read_bytes` or `json_object`.
    """
    return json_object(read_bytes(path, MOST_JSON), path)


def read_json_list(path: str | os.PathLike) -> list[Any]:
    """Read a JSON list that someone else wrote, as `read_json` does an object.

    Raises:
        UserError: an error of `read_bytes`; the content is not a JSON list, or is nested too deeply.
    """
    content = _parsed(read_bytes(path, MOST_JSON), path)
    if not isinstance(content, list):
        raise UserError(f"{path} contains a {type(content).__name__}; expected a JSON list")
    return content


def json_object(data: bytes, path: str | os.PathLike) -> dict[str, Any]:
    """Parse the content of a JSON file that someone else wrote; a byte order mark is accepted.

    Args:
        data: content of the file.
        path: its path, used in messages.

    Raises:
        UserError: the content is not a JSON object, is nested too deeply, or has more than `MOST_JSON` bytes.

    Example:
        >>> json_object(b"[1]", "config.json")
        Traceback (most recent call last):
        mmkd_jax.errors.UserError: config.json contains a list; expected a JSON object
    """
    content = _parsed(data, path)
    if not isinstance(content, dict):
        raise UserError(f"{path} contains a {type(content).__name__}; expected a JSON object")
    return content


def _parsed(data: bytes, path: str | os.PathLike) -> Any:
    if len(data) > MOST_JSON:
        raise UserError(f"{path} has {len(data):,} bytes; expected at most {MOST_JSON:,}")
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError, MemoryError) as error:  # ValueError also of an integer of 5,000 digits
        what = f"is not valid JSON ({shown(str(error))}): fetch it again"
        raise UserError(f"{path} {not_downloaded(data) or what}") from None
