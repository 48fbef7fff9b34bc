"""A published model's folder: its configuration and its tensors, from disk or the hub's cache."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmkd_jax.data.processor_file import FILE, settings
from mmkd_jax.errors import UserError
from mmkd_jax.pretrained import pickled

FILES = ["*.json", "*.txt", "*.model", "model.safetensors", "model-*.safetensors"]
FILES += ["pytorch_model.bin", "pytorch_model-*.bin"]
"""What is fetched of a hub's repository; weights as .bin only where there are no safetensors."""


def find(path_or_id: str | os.PathLike) -> pathlib.Path:
    """The folder: as given, or that of a hub id, downloaded or from the local cache.

    Args:
        path_or_id: a folder, or an id such as "sentence-transformers/all-MiniLM-L6-v2".

    Raises:
        UserError: there is no such folder, and no such id in reach.
    """
    folder = pathlib.Path(path_or_id)
    if folder.is_dir():
        return folder
    name = os.fspath(path_or_id)
    if folder.exists() or name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise UserError(f"{name!r} is no folder: name one with config.json and weights, or a hub id OWNER/NAME")
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:  # what is in the cache is used as it is: the same weights tomorrow, and no waiting where there is no network
        return pathlib.Path(huggingface_hub.snapshot_download(name, allow_patterns=FILES, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    except ValueError as error:
        raise UserError(f"{name!r} is neither a folder nor a hub id OWNER/NAME ({error})") from error
    try:
        held = huggingface_hub.list_repo_files(name)
        ignored = ["*.bin"] if any(f.endswith(".safetensors") for f in held) else []
        return pathlib.Path(huggingface_hub.snapshot_download(name, allow_patterns=FILES, ignore_patterns=ignored))
    except Exception as error:  # whatever its HTTP library raises
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{name!r} is no folder and not in the hub's cache, and cannot be fetched ({first})") from error


def read_json(folder: pathlib.Path, name: str) -> dict[str, Any]:
    """A JSON file of the folder.

    Raises:
        UserError: it is not there, or no JSON object.
    """
    try:
        found = json.loads((folder / name).read_text())
    except FileNotFoundError:
        raise UserError(f"{folder} has no {name}: it is not the folder of a published model") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{folder / name} is no JSON ({error}): fetch it again") from error
    if not isinstance(found, dict):
        raise UserError(f"{folder / name} holds a {type(found).__name__}; expected an object")
    return found


def read_processor(folder: pathlib.Path, expected: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What preprocessor_config.json says, and its bytes by name, to be saved again; nothing where there is none.

    Args:
        folder: of the model.
        expected: values that its fields must have, where it has them.

    Raises:
        UserError: a field has another value.
    """
    said, held = settings(folder)
    if wrong := [f"{k}={said[k]!r}, expected {x!r}" for k, x in expected.items() if said.get(k, x) != x]:
        raise UserError(f"{folder / FILE} has {'; '.join(wrong)}: this model takes nothing else")
    return said, held


def read_tensors(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """All tensors of the folder, by name: safetensors, whole or sharded, else PyTorch's files.

    Raises:
        UserError: there are none, one is damaged, or a shard is missing.
    """
    for whole, shards, reader in (
        ("model.safetensors", "model.safetensors.index.json", _safetensors),
        ("pytorch_model.bin", "pytorch_model.bin.index.json", _pickle),
    ):
        if (folder / whole).exists():
            return reader(folder / whole)
        if (folder / shards).exists():
            names = sorted(set(read_json(folder, shards)["weight_map"].values()))
            if absent := [n for n in names if not (folder / n).is_file()]:
                raise UserError(f"{folder / shards} names {', '.join(absent)}, which is not there: fetch it")
            return {k: x for n in names for k, x in reader(folder / n).items()}
    raise UserError(f"{folder} has neither model.safetensors nor pytorch_model.bin")


def _safetensors(path):
    import safetensors
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except safetensors.SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}): fetch it again") from error


def _pickle(path):
    found = pickled.read(path)
    if not isinstance(found, dict) or not all(isinstance(x, np.ndarray) for x in found.values()):
        raise UserError(f"{path} holds more than named tensors: expected a state dict")
    return found
