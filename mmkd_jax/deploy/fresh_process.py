"""An exported student in a fresh process, which runs the lines of its README and has no mmkd_jax."""

import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from mmkd_jax import files
from mmkd_jax.deploy.readme import code_of
from mmkd_jax.errors import UserError, shown

_DRIVER = """
import glob, sys
import numpy as np
for path in sorted(glob.glob(sys.argv[1] + "/*.in.npz")):
    columns = dict(np.load(path))
    np.savez(path[:-7] + ".out.npz", **{k: np.asarray(x) for k, x in student(columns).items()})
assert not [n for n in sys.modules if n.partition(".")[0] == "mmkd_jax"]
"""


def outputs(
    folder: pathlib.Path, batches: Iterable[Mapping[str, Any]], dtypes: Mapping[str, Any], batch: int | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """Compute the outputs of an exported student, with the lines of its README, in a fresh process.

    Args:
        folder: folder of the exported student.
        batches: columns of each batch.
        dtypes: output -> its dtype.
        batch: number of rows that each call takes; None is any. Fewer rows are padded.

    Returns:
        Outputs of each batch, in order.

    Raises:
        UserError: the process fails; with the last line of its error.
    """
    code = code_of(files.read(folder / "README.md")) + _DRIVER
    with tempfile.TemporaryDirectory() as scratch:
        counts: list[tuple[int, int]] = []
        number = 0
        for columns in batches:
            rows = len(next(iter(columns.values())))
            each = batch or rows
            for first in range(0, rows, each):
                piece: dict[str, Any] = {k: np.asarray(x)[first : first + each] for k, x in columns.items()}
                lacking = each - len(next(iter(piece.values())))
                piece = {k: np.concatenate([x, np.repeat(x[:1], lacking, 0)]) for k, x in piece.items()}
                np.savez(f"{scratch}/{number:08}.in.npz", **piece)
                number += 1
            counts.append((rows, -(-rows // each)))
        command = [sys.executable, "-I", "-c", code, scratch]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"the exported student fails in a fresh process: {shown(last, 300)}")
        number = 0
        for rows, pieces in counts:
            found = []
            for _ in range(pieces):
                with np.load(f"{scratch}/{number:08}.out.npz") as saved:
                    found.append({k: saved[k] for k in saved})
                number += 1
            whole = {k: np.concatenate([x[k] for x in found])[:rows] for k in found[0]}
            yield {k: x.view(dtypes[k]) if x.dtype.kind == "V" else x for k, x in whole.items()}
