"""Checksums of every augmentation's output, recorded for a version of the code.

    python -m tests.augment.checksums

writes them anew: after VERSION was raised, or for a new case.
"""

import hashlib
import json
import pathlib

import numpy as np

from mmkd_jax.augment import VERSION
from tests.augment.cases import STEPS, chain, compiled, rows

PATH = pathlib.Path(__file__).parent / "checksums.json"


def checksum(batch: dict, seen: dict) -> str:
    """Of the columns that changed."""
    digest = hashlib.sha256()
    for k in sorted(seen):
        if k not in batch or seen[k].tobytes() != batch[k].tobytes():
            # float noise rests on a machine's logarithm; all else is exact
            x = seen[k].round(3) + 0 if seen[k].dtype == np.float32 else seen[k]
            digest.update(k.encode() + x.tobytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    batch = rows()
    made = {name: checksum(batch, compiled(chain(name))(batch)) for name in STEPS}
    PATH.write_text(json.dumps({"version": VERSION, "checksums": made}, indent=1) + "\n")
