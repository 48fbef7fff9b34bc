"""Model folders: configuration and tensors, from disk or the Hugging Face hub."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from mmkd_jax import foreign_files
from mmkd_jax.data import processor_file
from mmkd_jax.data.processor_file import FILE, settings
from mmkd_jax.errors import UserError, shown
from mmkd_jax.looks_like import not_downloaded
from mmkd_jax.pretrained import pickled

FILES = ["*.json", "*.txt", "*.model", "bpe.codes", "model.safetensors", "model-*.safetensors"]
FILES += ["pytorch_model.bin", "pytorch_model-*.bin"]
FILES += [f"[0-9]*_*/{name}" for name in FILES if not name.startswith("*")]
FILES += ["*.jinja", "additional_chat_templates/*.jinja"]
"""Files downloaded from a hub repository, also of the numbered folders of sentence-transformers; .bin weights only if
there are no safetensors beside them."""


def find(path_or_id: str | os.PathLike) -> pathlib.Path:
    """Return the folder of a path or hub id, which is read from the local cache or downloaded.

    Args:
        path_or_id: a folder, or a hub id such as "sentence-transformers/all-MiniLM-L6-v2".

    Raises:
        UserError: the folder does not exist, and the hub id is neither cached nor can be downloaded.
    """
    if not os.fspath(path_or_id):
        raise UserError("'' is not a folder: pass one with config.json and weights, or a hub id OWNER/NAME")
    folder = pathlib.Path(path_or_id)
    if folder.is_dir():
        return folder
    name = os.fspath(path_or_id)
    local = folder.parent != pathlib.Path() and folder.parent.is_dir()  # a misspelled path, not the hub's owner
    if folder.exists() or local or name.count("/") > 1 or name.startswith((".", "/", "~")):
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
        safe = {os.path.dirname(f) for f in names if f.endswith(".safetensors")}
        ignored = [f for f in names if f.endswith(".bin") and os.path.dirname(f) in safe]
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
    if not (folder / name).exists():
        raise UserError(f"{folder} has no {name}: pass a model folder, or fetch it again")
    return foreign_files.read_json(folder / name)


def read_processor(
    folder: pathlib.Path, expected: Mapping[str, Any], kind: str
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read the fields of preprocessor_config.json, and its bytes by file name for saving; both empty without a file.

    Args:
        folder: model folder.
        expected: required values of fields, if present.
        kind: name of transformers' class without its ending, if present.

    Raises:
        UserError: a field has another value, or the file is of another class.
    """
    fields, saved = settings(folder)
    if (found := processor_file.kind(fields, kind)) != kind:
        remedy = f"process the recordings yourself, or fetch the file that this model was trained with, a {kind}"
        raise UserError(f"{folder / FILE} is of feature extractor {shown(repr(found))}, which is not supported: "
                        f"{remedy}FeatureExtractor")  # fmt: skip
    if wrong := [f"{k}={shown(repr(fields[k]))}, expected {x!r}" for k, x in expected.items() if fields.get(k, x) != x]:
        raise UserError(f"{folder / FILE} has {'; '.join(wrong)}: this model supports no other value")
    return fields, saved


def read_tensors(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Read all tensors of the folder, by name: safetensors, single or sharded, else PyTorch files.

    Raises:
        UserError: the folder has no weights, a file is damaged, or the index names a shard or a tensor that is missing.
    """
    for whole, index, read in (
        ("model.safetensors", "model.safetensors.index.json", _safetensors),
        ("pytorch_model.bin", "pytorch_model.bin.index.json", _pickle),
    ):
        if (folder / whole).exists():
            return read(folder / whole)
        if (folder / index).exists():
            return _shards(folder, index, read)
    raise UserError(f"{folder} has neither model.safetensors nor pytorch_model.bin, nor an index of shards: fetch them")


def _shards(folder, index, read):
    where, shard_of = folder / index, read_json(folder, index).get("weight_map")
    if not isinstance(shard_of, dict):
        raise UserError(f"{where} has no object weight_map, which names the file of each tensor: fetch it again")
    for name in shard_of.values():
        if not is_plain(name):
            raise UserError(f"{where} names {shown(repr(name))}; expected the name of a file in the same folder")
    names = sorted(set(shard_of.values()))
    if absent := [n for n in names if not (folder / n).is_file()]:
        raise UserError(f"{where} names {shown(', '.join(absent))}, which is missing: fetch it")
    tensors: dict[str, np.ndarray] = {}
    for shard in names:
        found = read(folder / shard)
        if twice := found.keys() & tensors.keys():
            raise UserError(f"{where}: {shown(min(twice))} is in {shard} and in another shard: fetch them again")
        if lacking := [k for k, n in shard_of.items() if n == shard and k not in found]:
            raise UserError(f"{where}: {shard} lacks {shown(lacking[0])}: fetch both again")
        tensors |= found
    return tensors


def is_plain(name: Any) -> bool:
    """Return whether a name from a file is that of an entry of the same folder.

    Example:
        >>> is_plain("1_Pooling"), is_plain("../1_Pooling"), is_plain(3)
        (True, False, False)
    """
    if not isinstance(name, str) or not name.isprintable() or name in ("", ".", ".."):
        return False
    return not {"/", "\\", os.sep} & set(name) and len(name) <= 255


_NATIVE = ("BOOL", "BF16", "C64", *(f"{kind}{bits}" for kind in "IU" for bits in (8, 16, 32, 64)), "F16", "F32", "F64")
"""Types that the library reads into NumPy arrays, one tensor at a time."""


_MOST_HEADER = 2**24
"""Maximum size of a header of safetensors, in bytes."""


def _narrow(dtype):
    """NumPy dtype of an 8-bit float, which the library does not convert."""
    return {"F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2}.get(dtype)


def _safetensors(path):
    import safetensors

    size = foreign_files.size_of(path)
    with open(path, "rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if _MOST_HEADER < header <= size:
        raise UserError(f"{path} has a header of {header:,} bytes; expected at most {_MOST_HEADER:,}")
    try:
        with safetensors.safe_open(path, "numpy") as file:
            dtypes = {k: file.get_slice(k).get_dtype() for k in file.keys()}  # noqa: SIM118  it is not a dict
            unknown = {k: dtype for k, dtype in dtypes.items() if dtype not in _NATIVE and _narrow(dtype) is None}
            if not unknown and not any(map(_narrow, dtypes.values())):
                return file.get_tensors()
    except Exception as error:  # the library and NumPy raise several kinds
        with open(path, "rb") as file:
            start = file.read(64)
        what = not_downloaded(start) or f"is damaged or cut off ({_first_line(error)}): fetch it again"
        raise UserError(f"{path} {what}") from error
    if unknown:
        name, dtype = next(iter(unknown.items()))
        raise UserError(f"{path}: {shown(name)} has dtype {dtype}, which is not supported")
    return {
        name: np.frombuffer(x["data"], _narrow(x["dtype"]) or _dtype(x["dtype"])).reshape(x["shape"])
        for name, x in safetensors.deserialize(foreign_files.read_bytes(path, 2**62))
    }


def _dtype(name):
    """NumPy dtype of a type in `_NATIVE`."""
    if name in ("BOOL", "BF16", "C64"):
        return {"BOOL": np.dtype("?"), "BF16": np.dtype(ml_dtypes.bfloat16), "C64": np.dtype("<c8")}[name]
    return np.dtype(f"<{name[0].lower()}{int(name[1:]) // 8}")


def _first_line(error):
    return shown((str(error).strip().splitlines() or [type(error).__name__])[0])


def _pickle(path):
    tensors = pickled.read(path)
    if not isinstance(tensors, dict) or not all(
        isinstance(k, str) and isinstance(x, np.ndarray) for k, x in tensors.items()
    ):
        hint = ", such as its 'state_dict'" if isinstance(tensors, dict) and "state_dict" in tensors else ""
        raise UserError(f"{path} contains more than named tensors: save a state dict alone{hint}")
    return tensors
