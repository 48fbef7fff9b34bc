"""Model folders: configuration and tensors, from disk or the Hugging Face hub."""

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
"""Files downloaded from a hub repository; .bin weights only if it has no safetensors."""


def find(path_or_id: str | os.PathLike) -> pathlib.Path:
    """Return the folder of a path or hub id, which is read from the local cache or downloaded.

    Args:
        path_or_id: a folder, or a hub id such as "sentence-transformers/all-MiniLM-L6-v2".

    Raises:
        UserError: the folder does not exist, and the hub id is neither cached nor can be downloaded.
    """
    folder = pathlib.Path(path_or_id)
    if folder.is_dir():
        return folder
    name = os.fspath(path_or_id)
    if folder.exists() or name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise UserError(f"{name!r} is not a folder: pass one with config.json and weights, or a hub id OWNER/NAME")
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:  # prefer the cache: reproducible weights, and no network timeout when offline
        return pathlib.Path(huggingface_hub.snapshot_download(name, allow_patterns=FILES, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    except ValueError as error:
        raise UserError(f"{name!r} is neither a folder nor a hub id OWNER/NAME ({error})") from error
    try:
        names = huggingface_hub.list_repo_files(name)
        ignored = ["*.bin"] if any(f.endswith(".safetensors") for f in names) else []
        return pathlib.Path(huggingface_hub.snapshot_download(name, allow_patterns=FILES, ignore_patterns=ignored))
    except Exception as error:  # any error of its HTTP library
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        message = f"{name!r} is not a folder, is not in the hub's cache, and cannot be downloaded ({first})"
        raise UserError(message) from error


def read_json(folder: pathlib.Path, name: str) -> dict[str, Any]:
    """Read a JSON file of the folder.

    Raises:
        UserError: the file is missing or is not a JSON object.
    """
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} has no {name}: it is not a model folder") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{folder / name} is not valid JSON ({error}): fetch it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{folder / name} contains a {type(content).__name__}; expected a JSON object")
    return content


def read_processor(folder: pathlib.Path, expected: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read the fields of preprocessor_config.json, and its bytes by file name for saving; both empty without a file.

    Args:
        folder: model folder.
        expected: required values of fields, if present.

    Raises:
        UserError: a field has another value.
    """
    fields, files = settings(folder)
    if wrong := [f"{k}={fields[k]!r}, expected {x!r}" for k, x in expected.items() if fields.get(k, x) != x]:
        raise UserError(f"{folder / FILE} has {'; '.join(wrong)}: this model supports no other value")
    return fields, files


def read_tensors(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Read all tensors of the folder, by name: safetensors, single or sharded, else PyTorch files.

    Raises:
        UserError: the folder has no weights, a file is damaged, or a shard is missing.
    """
    for whole, shards, read in (
        ("model.safetensors", "model.safetensors.index.json", _safetensors),
        ("pytorch_model.bin", "pytorch_model.bin.index.json", _pickle),
    ):
        if (folder / whole).exists():
            return read(folder / whole)
        if (folder / shards).exists():
            names = sorted(set(read_json(folder, shards)["weight_map"].values()))
            if absent := [n for n in names if not (folder / n).is_file()]:
                raise UserError(f"{folder / shards} names {', '.join(absent)}, which is missing: fetch it")
            return {k: x for n in names for k, x in read(folder / n).items()}
    raise UserError(f"{folder} has neither model.safetensors nor pytorch_model.bin")


def _safetensors(path):
    import safetensors
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except safetensors.SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}): fetch it again") from error


def _pickle(path):
    tensors = pickled.read(path)
    if not isinstance(tensors, dict) or not all(isinstance(x, np.ndarray) for x in tensors.values()):
        raise UserError(f"{path} contains more than named tensors: expected a state dict")
    return tensors
