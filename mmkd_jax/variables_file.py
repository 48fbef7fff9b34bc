"""Variables in a safetensors file: equal variables are equal bytes, and damage is noticed."""

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from mmkd_jax import files, foreign_files
from mmkd_jax.errors import UserError

# dtype names of safetensors, whose NumPy loader does not support bfloat16
_DTYPES = {"BOOL": np.bool_, "BF16": jnp.bfloat16, **{f"F{n}": f"<f{n // 8}" for n in (16, 32, 64)}}
_DTYPES |= {f"{kind}{n}": f"<{kind.lower()}{n // 8}" for kind in "IU" for n in (8, 16, 32, 64)}
_MOST = 2**44


def write_variables(path: str | os.PathLike, variables: Any, write: bool = True) -> str:
    """Write variables to a safetensors file, atomically; equal variables produce equal bytes.

    Args:
        path: output file.
        variables: pytree of arrays.
        write: if False, only compute the hash (another process writes the file).

    Returns:
        The SHA-256 of the file.
    """
    flat = {
        jax.tree_util.keystr(p, simple=True, separator="/"): np.asarray(x, order="C")
        for p, x in jax.tree.leaves_with_path(variables)
    }
    data = safetensors.numpy.save(dict(sorted(flat.items())))
    if write:
        files.write(path, data)
    return hashlib.sha256(data).hexdigest()


def read_flat(path: str | os.PathLike, sha256: str | None = None) -> dict[str, np.ndarray]:
    """Read a file written by `write_variables`, as arrays by path; the names are joined by "/".

    Args:
        path: input file.
        sha256: expected hash of the file; None skips the check.

    Raises:
        UserError: the file is missing, damaged, or not a safetensors file.
    """
    if not os.path.lexists(path):
        raise UserError(f"variables {path} are missing: run the experiment again, which makes them again")
    data = foreign_files.read_bytes(path, _MOST)
    if sha256 is not None and (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise UserError(
            f"variables {path} are damaged: SHA-256 {found[:12]}…, expected {sha256[:12]}…; run the experiment again, "
            "which makes them again"
        )
    try:
        return {
            name: np.frombuffer(x["data"], _DTYPES[x["dtype"]]).reshape(x["shape"])
            for name, x in safetensors.deserialize(data)
        }
    except (safetensors.SafetensorError, KeyError) as error:  # KeyError: a dtype that NumPy lacks
        raise UserError(f"variables {path} cannot be read: {error}") from None


def read_variables(path: str | os.PathLike, like: Any, sha256: str | None = None) -> Any:
    """Read a file written by `write_variables`.

    Args:
        path: input file.
        like: pytree of the same structure, shapes and dtypes.
        sha256: expected hash of the file; None skips the check.

    Raises:
        UserError: the file is missing or damaged, or has different variables.
    """
    flat = read_flat(path, sha256)
    paths, tree = jax.tree.flatten_with_path(like)
    names = [jax.tree_util.keystr(p, simple=True, separator="/") for p, _ in paths]
    expected = {n: f"{x.dtype}{list(x.shape)}" for n, (_, x) in zip(names, paths, strict=True)}
    check_same_leaves(path, {n: f"{x.dtype}{list(x.shape)}" for n, x in flat.items()}, expected)
    return jax.tree.unflatten(tree, jax.device_put([flat[n] for n in names], may_alias=False))


def check_same_leaves(where: str | os.PathLike, saved: Mapping[str, str], expected: Mapping[str, str]) -> None:
    """Raise if leaves differ; the message names them.

    Args:
        where: the file, used in messages.
        saved: name -> dtype and shape in the file.
        expected: name -> dtype and shape.
    """
    changed = [k for k in {**saved, **expected} if saved.get(k) != expected.get(k)]
    lines = [f"{k}: {saved.get(k, 'missing')} saved, {expected.get(k, 'missing')} expected" for k in changed]
    if lines:
        rest = f" and {len(lines) - 3} more" if len(lines) > 3 else ""
        raise UserError(f"{where} belongs to another configuration: {'; '.join(lines[:3])}{rest}")
