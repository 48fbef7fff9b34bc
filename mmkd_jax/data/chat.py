"""Chat templates of tokenizers: conversations to texts, which transformers renders in a child process."""

import dataclasses
import json
import pathlib
import re
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mmkd_jax import child_process, foreign_files
from mmkd_jax.data import other_tokenizers, with_transformers
from mmkd_jax.errors import UserError, choices, shown

_CONFIG, _DEFAULT, _JSON = "tokenizer_config.json", "chat_template.jinja", "chat_template.json"
_OTHERS = "additional_chat_templates"
_LARGEST = 2**20
"""Maximum size of a template, in bytes."""
_MOST = 100
"""Maximum number of templates."""
_EACH = 0.01
"""Seconds to render a conversation, beyond those that reading the tokenizer may take."""
_ANSWERS = re.compile(r"\{%-?\s*generation\b")


class Rendered(NamedTuple):
    """A conversation as text.

    Attributes:
        text: the text.
        spans: start and end of each answer of the assistant, in characters.
    """

    text: str
    spans: Sequence[Sequence[int]]


def read_files(folder: pathlib.Path) -> dict[str, bytes]:
    """Return the files of a folder's chat templates, name -> content.

    Raises:
        UserError: there are more than 100 of them, or one is larger than 1 MiB or cannot be read.
    """
    others = folder / _OTHERS
    names = sorted(p.name for p in others.glob("*.jinja")) if others.is_dir() else []
    if len(names) > _MOST:
        raise UserError(f"{others} has {len(names)} templates; expected at most {_MOST}")
    names = [n for n in (_DEFAULT, _JSON) if (folder / n).exists()] + [f"{_OTHERS}/{n}" for n in names]
    return {n: foreign_files.read_bytes(folder / n, _LARGEST) for n in names}


def templates(folder: pathlib.Path, files: Mapping[str, bytes]) -> dict[str, str]:
    """Return a tokenizer's chat templates, name -> template; the only one is "default".

    As in transformers, files of templates replace those in tokenizer_config.json. chat_template.json, which older
    processors have, is read if there are no others.

    Args:
        folder: model folder, used in messages.
        files: name -> content of its tokenizer files.

    Raises:
        UserError: a template is no text, or is not UTF-8.
    """
    found: dict[str, Any] = {}
    for name, content in files.items():
        if name.endswith(".jinja"):
            try:
                text = content.decode()
            except UnicodeDecodeError as error:
                raise UserError(f"{folder / name} is not UTF-8 ({error.reason}): fetch it again") from None
            found["default" if name == _DEFAULT else pathlib.PurePosixPath(name).stem] = text
    for name in (_CONFIG, _JSON):
        if found or name not in files:
            continue
        value = foreign_files.json_object(files[name], folder / name).get("chat_template")
        listed = isinstance(value, list) and all(isinstance(x, dict) for x in value)
        if listed:
            pairs = [(x.get("name"), x.get("template")) for x in value]
        else:
            pairs = [] if value is None else list(value.items()) if isinstance(value, dict) else [("default", value)]
        if wrong := [x for pair in pairs for x in pair if not isinstance(x, str) or len(x) > _LARGEST]:
            expected = "a text of at most 1 MiB, or a list of objects with name and template"
            raise UserError(f"{folder / name}: chat_template has {shown(repr(wrong[0]))}; expected {expected}")
        found = dict(pairs)
    return found


def validated(conversations: Any, modality: str) -> list[list[dict[str, str]]]:
    """Return conversations as lists of dicts.

    Args:
        conversations: lists of messages.
        modality: name used in messages.

    Raises:
        UserError: a single conversation instead of a sequence, an empty one, or a message without role and content or
            with a value that is no text.
    """
    form = "a list of messages {'role': 'user', 'content': '…'}"
    if not _is_list(conversations) or any(isinstance(x, Mapping) for x in conversations):
        single = _is_list(conversations) or isinstance(conversations, Mapping)
        what = "got a single one: put it in a list" if single else f"got {shown(repr(conversations))}"
        raise UserError(f"{modality}: expected a list of conversations, each {form}; {what}")
    for row, conversation in enumerate(conversations):
        if not _is_list(conversation) or not conversation:
            got = shown(repr(conversation))
            raise UserError(f"{modality}: conversation {row} is {got}; expected {form}")
        for i, message in enumerate(conversation):
            name = f"{modality}: message {i} of conversation {row}"
            if not isinstance(message, Mapping):
                raise UserError(f"{name} is {shown(repr(message))}; expected {{'role': 'user', 'content': '…'}}")
            if lacking := [k for k in ("role", "content") if k not in message]:
                raise UserError(f"{name} has no {lacking[0]!r}; expected 'role' and 'content'")
            if wrong := [k for k, x in message.items() if not isinstance(k, str) or not isinstance(x, str)]:
                value = shown(repr(message[wrong[0]]))
                raise UserError(f"{name} has {shown(repr(wrong[0]))}: {value}; expected a text")
    return [[dict(message) for message in conversation] for conversation in conversations]


def _is_list(x: Any) -> bool:
    return isinstance(x, Sequence) and not isinstance(x, str | bytes)


def render(
    folder: pathlib.Path,
    files: Mapping[str, bytes],
    config: Mapping[str, Any],
    conversations: Any,
    template: str | None,
    start: bool,
    find: bool,
    modality: str,
    limits: child_process.Limits,
) -> list[Rendered]:
    """Render conversations with a tokenizer's chat template.

    Args:
        folder: model folder, used in messages.
        files: name -> content of its tokenizer files.
        config: its config.json, by which transformers chooses the class, which has the special tokens.
        conversations: lists of messages.
        template: name of the template; None for "default".
        start: add the start of an answer.
        find: find the answers of the assistant.
        modality: name used in messages.
        limits: bounds of the child process, which has more time to import transformers and for each conversation.

    Raises:
        UserError: an error of `templates` or `validated`; the template does not exist, does not mark the answers, or
            cannot render a conversation within the limits.
    """
    known = templates(folder, files)
    if not known:
        what = "add the chat_template.jinja that the model was trained with, or pass texts"
        raise UserError(f"{modality}: the tokenizer in {folder} has no chat template: {what}")
    name = "default" if template is None else template
    if name not in known:
        raise UserError(f"{modality}: no chat template {shown(repr(name))}; available: {shown(choices(known))}")
    if find and not _ANSWERS.search(known[name]):
        what = "which marks the answers of the assistant: remove answers=True"
        raise UserError(f"{modality}: chat template {shown(repr(name))} has no {{% generation %}}, {what}")
    asked = validated(conversations, modality)
    if not asked:
        return []
    more = dataclasses.replace(limits, seconds=limits.seconds + _EACH * len(asked))
    what = f"{modality}: chat template {shown(repr(name))} of {folder}"
    with tempfile.TemporaryDirectory() as place:
        other_tokenizers.write(pathlib.Path(place), files, config)
        data = json.dumps([place, known[name], asked, start, find]).encode()
        found = with_transformers.ask("chat_rendering.py", data, what, more)
    if "refused" in found:
        row = f" to conversation {found['row']}" if "row" in found else ""
        reason = shown(found["refused"].replace(place, "FOLDER"), 200)
        raise UserError(f"{what} cannot be applied{row} ({reason}): change the messages, or name another template")
    return [Rendered(*pair) for pair in zip(found["texts"], found["spans"], strict=True)]
