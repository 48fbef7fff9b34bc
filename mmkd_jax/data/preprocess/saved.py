"""Preprocessing on disk: preprocess.json, and the files of tokenizers and processors. No pickle, no code."""

import dataclasses
import hashlib
import pathlib
import re
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmkd_jax import child_process, files, foreign_files
from mmkd_jax.data import other_pictures, processor_file, tokenizer
from mmkd_jax.data.other_pictures import OtherPictures
from mmkd_jax.data.preprocess.preprocessing import STEPS, Preprocessing
from mmkd_jax.data.preprocess.processed import PROCESSORS, Processed
from mmkd_jax.data.preprocess.row import check_types
from mmkd_jax.data.preprocess.tokenize import Tokenize
from mmkd_jax.data.tokenizer import Tokenizer
from mmkd_jax.errors import UserError, choices, shown
from mmkd_jax.typing import Count

FILE = "preprocess.json"
FORMAT = 1
_STEPS = {x.__name__: x for x in STEPS}
_PROCESSORS = {x.__name__: x for x in PROCESSORS}
_NAMES = (*tokenizer.FILES, "config.json", processor_file.FILE)
_FOLDER = re.compile(r"(tokenizer|processor)-[0-9]{1,3}")
_LARGEST = 2**28
"""Maximum size of a file, in bytes."""
_MOST = 1_000
_AGAIN = "copy it again, or write it again with the version of mmkd_jax that wrote it"


@dataclasses.dataclass(frozen=True)
class _Tokenization:
    """Arguments of `Tokenizer` beside its files."""

    length: Count
    padding: int
    modality: str
    types: bool
    whole: bool
    lowercase: bool


def write(folder: pathlib.Path, entries: Sequence[Preprocessing]) -> None:
    """Write preprocessing steps to a folder: preprocess.json, and the files of tokenizers and processors.

    Args:
        folder: the folder, which is created.
        entries: the chains of steps.

    Raises:
        UserError: no space or no permission.

    Example:
        >>> from mmkd_jax.data.preprocess import ReadArray
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> write(folder, [Preprocessing("size", (ReadArray((2,)),))])
        >>> read(folder)
        (Preprocessing(input='size', steps=(ReadArray(shape=(2,), dtype='float32'),)),)
    """
    for name, content in encoded(entries).items():
        files.write(folder / name, content)


def encoded(entries: Sequence[Preprocessing]) -> dict[str, bytes]:
    """Return the files that `write` writes, name -> content; preprocess.json is last, and has the hashes of the others.

    Example:
        >>> list(encoded([]))
        ['preprocess.json']
    """
    contents: dict[str, bytes] = {}
    chains = [{"input": x.input, "steps": [_encoded(step, "step", contents) for step in x.steps]} for x in entries]
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    described = files.hashed_json({"format": FORMAT, "entries": chains, "files": hashes})
    return contents | {FILE: described.encode()}


def read(
    folder: pathlib.Path, limits: child_process.Limits | None = child_process.DEFAULT
) -> tuple[Preprocessing, ...]:
    """Read preprocessing steps that `write` wrote.

    Only the steps of this library are built, from values that their annotations allow. Files are named in
    preprocess.json with their SHA-256, and lie in the folder.

    Args:
        folder: the folder.
        limits: bounds of the child processes that first read tokenizers, and image processors of transformers; None for
            those that need no such test.

    Raises:
        UserError: a file is missing, damaged or too large; the format is newer; or a step, field or file is unknown or
            has a value of another type.
    """
    return decoded(folder, foreign_files.read_bytes(folder / FILE, foreign_files.MOST_JSON), limits)


def decoded(
    folder: pathlib.Path, text: bytes, limits: child_process.Limits | None = child_process.DEFAULT
) -> tuple[Preprocessing, ...]:
    """Read preprocessing steps as `read` does, with the content of preprocess.json."""
    path = folder / FILE
    content = foreign_files.json_object(text, path)
    if content.pop("sha256", None) != files.digest(content):
        raise UserError(f"{path} is damaged (it has another SHA-256 than recorded): {_AGAIN}")
    version = content.get("format")
    if type(version) is int and version > FORMAT:
        raise UserError(f"{path} has format {version}, of a newer mmkd_jax; this one reads {FORMAT}: upgrade it")
    if version != FORMAT:
        raise UserError(f"{path} has format {shown(repr(version))}; expected {FORMAT}: {_AGAIN}")
    entries, hashes = content.get("entries"), content.get("files")
    if not isinstance(entries, list) or not isinstance(hashes, dict):
        raise UserError(f"{path} lacks the list entries or the object files: {_AGAIN}")
    if len(entries) + len(hashes) > _MOST:
        raise UserError(
            f"{path} has {len(entries)} entries and {len(hashes)} files; expected {_MOST} or less: {_AGAIN}"
        )
    contents = {name: _read(folder, name, expected) for name, expected in hashes.items()}
    try:
        return tuple(_entry(x, contents, limits) for x in entries)
    except UserError as error:
        raise error.within(str(path)) from None
    except Exception as error:  # of values of any kind
        reason = shown(str(error), 160)
        raise UserError(f"{path} cannot be read ({type(error).__name__}: {reason}): {_AGAIN}") from None


def _encoded(value: Any, kind: str, contents: dict[str, bytes]) -> Any:
    """Return a step, processor or field as JSON; its files are added to `contents`."""
    if isinstance(value, Tokenizer):
        folder = _add(value.saved_files(), "tokenizer", contents)
        return {"folder": folder} | {f.name: getattr(value, f.name) for f in dataclasses.fields(_Tokenization)}
    if dataclasses.is_dataclass(value):
        fields = {f.name: _encoded(getattr(value, f.name), "processor", contents) for f in dataclasses.fields(value)}
        return {kind: type(value).__name__, "settings": fields}
    if isinstance(value, Mapping) and any(isinstance(x, bytes) for x in value.values()):
        return _add(value, "processor", contents)
    if isinstance(value, Mapping):
        return {k: _encoded(x, kind, contents) for k, x in value.items()}
    if isinstance(value, tuple | list):
        return [_encoded(x, kind, contents) for x in value]
    return value.item() if isinstance(value, np.generic) else value


def _add(added: Mapping[str, bytes], kind: str, contents: dict[str, bytes]) -> str:
    """Add files to a folder, or find the folder that has them already; return its name."""
    folders = sorted({name.partition("/")[0] for name in contents})
    for folder in folders:
        if {n.partition("/")[2]: x for n, x in contents.items() if n.startswith(f"{folder}/")} == added:
            return folder
    folder = f"{kind}-{len(folders)}"
    contents |= {f"{folder}/{name}": x for name, x in added.items()}
    return folder


def _read(folder: pathlib.Path, name: str, expected: Any) -> bytes:
    """Return the content of a file of the folder."""
    parent, _, file = name.partition("/")
    if not _FOLDER.fullmatch(parent) or file not in _NAMES:
        raise UserError(
            f"{folder / FILE} names the file {shown(repr(name))}, which preprocessing does not have: {_AGAIN}"
        )
    content = foreign_files.read_bytes(folder / parent / file, _LARGEST)
    if hashlib.sha256(content).hexdigest() != expected:
        raise UserError(f"{folder / parent / file} is damaged (it has another SHA-256 than recorded): {_AGAIN}")
    return content


def _entry(x: Any, contents: Mapping[str, bytes], limits: child_process.Limits | None) -> Preprocessing:
    fields = _fields(x, "an entry", ("input", "steps"))
    if not isinstance(fields["input"], str):
        raise UserError(f"input is {shown(repr(fields['input']))}; expected a name")
    if not isinstance(fields["steps"], list):
        raise UserError(f"steps is {shown(repr(fields['steps']))}; expected a list")
    return Preprocessing(fields["input"], tuple(_step(step, contents, limits) for step in fields["steps"]))


def _step(x: Any, contents: Mapping[str, bytes], limits: child_process.Limits | None) -> Any:
    kind, fields = _settings(x, "step", _STEPS)
    if issubclass(kind, Tokenize):
        fields["tokenizer"] = _tokenizer(fields["tokenizer"], contents, limits)
    elif kind is Processed:
        fields["processor"] = _processor(fields["processor"], contents, limits)
    return _built(kind, fields)


def _processor(x: Any, contents: Mapping[str, bytes], limits: child_process.Limits | None) -> Any:
    kind, fields = _settings(x, "processor", _PROCESSORS)
    if "pictures" in fields:
        fields["pictures"] = _processor(fields["pictures"], contents, limits)
    if "files" in fields:
        fields["files"] = {} if fields["files"] == {} else _of(fields["files"], contents)
    made = _built(kind, fields)
    return other_pictures.read_again(made, limits) if limits and kind is OtherPictures else made


def _tokenizer(x: Any, contents: Mapping[str, bytes], limits: child_process.Limits | None) -> Tokenizer:
    fields = _fields(x, "a tokenizer", ("folder", *(f.name for f in dataclasses.fields(_Tokenization))))
    folder = fields.pop("folder")
    how, added = _built(_Tokenization, fields), _of(folder, contents)
    if how.padding < 0:
        raise UserError(f"a tokenizer: padding is {how.padding}; expected 0 or more")
    with tempfile.TemporaryDirectory() as place:
        for name, content in added.items():
            (pathlib.Path(place) / name).write_bytes(content)
        try:
            return Tokenizer(pathlib.Path(place), **dataclasses.asdict(how), limits=limits)
        except UserError as error:
            raise UserError(str(error).replace(place, folder)) from None


def _of(folder: Any, contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files of a folder."""
    found = {name.partition("/")[2]: x for name, x in contents.items() if name.partition("/")[0] == folder}
    if not found:
        raise UserError(f"folder is {shown(repr(folder))}, which has no files; expected a folder of `files`")
    return found


def _settings(x: Any, key: str, known: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the class of a step or processor, and its fields."""
    name = x.get(key) if isinstance(x, dict) else x
    if not isinstance(name, str) or name not in known:
        raise UserError(f"{key} {shown(repr(name))} is unknown; this version has {choices(known)}: upgrade mmkd_jax")
    settings = _fields(x, f"{key} {name}", (key, "settings"))["settings"]
    return known[name], _fields(settings, name, [f.name for f in dataclasses.fields(known[name])])


def _fields(x: Any, name: str, expected: Sequence[str]) -> dict[str, Any]:
    """Return the fields of an object, which are exactly the expected ones."""
    if not isinstance(x, dict):
        raise UserError(f"{name} is {shown(repr(x))}; expected an object with {choices(expected)}")
    if set(x) != set(expected):
        raise UserError(f"{name} has the fields {shown(choices(x))}; expected {choices(expected)}: {_AGAIN}")
    return dict(x)


def _built(kind: Any, fields: Mapping[str, Any]) -> Any:
    """Return a dataclass, from values of the types that its annotations allow."""
    values = {k: _tuples(x) for k, x in fields.items()}
    check_types(kind, values)
    return kind(**values)


def _tuples(x: Any) -> Any:
    return tuple(map(_tuples, x)) if isinstance(x, list) else x
