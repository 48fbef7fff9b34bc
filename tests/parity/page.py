"""docs/parity.md: each family's largest differences to PyTorch. `python -m tests.parity.page`."""

import pathlib
import tempfile

import jax.numpy as jnp
import numpy as np
import transformers

from mmkd_jax import pretrained
from mmkd_jax.experiment import run_folder
from mmkd_jax.pretrained import packages
from tests.parity import real, voices
from tests.parity.cases import Case, answer, gaps, quiet, reference, saved
from tests.parity.every_case import CASES

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "parity.md"
KINDS = {
    "hidden": "hidden states and maps",
    "attentions": "attention maps",
    "tokens": "last tokens",
    "pooled": "pooler",
}
KINDS |= {"features": "features", "embedding": "embeddings", "similarity": "similarities"}
DTYPES = (None, jnp.bfloat16)
HEAD = """# Parity

Pretrained encoders of `mmkd_jax.pretrained` beside the PyTorch models of transformers, EfficientNet-Lite0 and Resemblyzer beside their own, with the same weights: the largest difference of any value, relative to the largest value of the tensor where that is above 1. Asked for is 1e-4; the tests ask for 2e-5. The last column is the largest of all with `dtype=jnp.bfloat16`, whose own rounding is 4e-3 at each operation; the tests ask for 5e-2, but by root mean square of EfficientNet-Lite0, whose maps are sensitive, for at most 1.1 times what PyTorch loses in bfloat16, and of Resemblyzer for 2e-2. Small models have every parameter, statistic and table drawn at random, and padded texts; each is loaded from what transformers saved, and saved to what transformers loads with outputs that are equal bit for bit.

| family | model | weights | {kinds} | all, in bfloat16 |
| --- | --- | --- | {rule} | ---: |
"""  # noqa: E501


Gaps = dict[str, tuple[float, float]]  # name of a tensor -> largest difference, largest value


def row(family: str, name: str, weights: str, fine: Gaps, rough: Gaps) -> str:
    """A line of the table, from what float32 and bfloat16 gave."""

    def largest(measured: Gaps) -> str:
        return f"{max(gap / max(1, size) for gap, size in measured.values()):.0e}" if measured else "–"

    kinds = [largest({n: g for n, g in fine.items() if n.partition(".")[0] == kind}) for kind in KINDS]
    return f"| {family} | {name} | {weights} | {' | '.join(kinds)} | {largest(rough)} |"


def compared(case: Case, model, folder: pathlib.Path) -> list[Gaps]:
    """The case's differences, in float32 and in bfloat16."""
    theirs = reference(model, case)
    return [gaps(case, answer(pretrained.load(folder, dtype=dtype), case.batch), theirs) for dtype in DTYPES]


def apart(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> Gaps:
    """The differences of all tensors that theirs has."""
    return {n: (float(abs(ours[n] - x).max()), float(abs(x).max())) for n, x in theirs.items()}


def main() -> None:
    """Measure every case and write the page."""
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = packages.minilm(pathlib.Path(scratch))
        with quiet():
            model = transformers.AutoModel.from_pretrained(folder).eval()
        case = real.case(model, pretrained.load(folder).processor(real.TEXTS))
        lines.append(row("BERT", "all-MiniLM-L6-v2", "real", *compared(case, model, folder)))
    with tempfile.TemporaryDirectory() as scratch:
        folder = packages.efficientnet_lite0(scratch)
        batch = pretrained.load(folder).processor(real.pictures())
        theirs = real.maps(real.efficientnet_lite0(pathlib.Path(scratch) / "pytorch_model.bin"), batch["image"])
        found = [apart(answer(pretrained.load(folder, dtype=dtype), batch), theirs) for dtype in DTYPES]
        lines.append(row("EfficientNet-Lite", "EfficientNet-Lite0", "real", *found))
    with tempfile.TemporaryDirectory() as scratch:
        folder = packages.resemblyzer(scratch)
        found = [apart(*voices.both(pretrained.load(folder, dtype=dtype), real.recordings())) for dtype in DTYPES]
        lines.append(row("voice encoder", "Resemblyzer", "real", *found))
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as scratch:
            model = saved(case, pathlib.Path(scratch))
            lines.append(row(case.family, name, "random", *compared(case, model, pathlib.Path(scratch))))
    head = HEAD.format(kinds=" | ".join(KINDS.values()), rule=" | ".join(["---:"] * len(KINDS)))
    made = f"\nBy `python -m tests.parity.page`, {run_folder.provenance()}, transformers {transformers.__version__}.\n"
    PAGE.write_text(head + "\n".join(lines) + "\n" + made)


if __name__ == "__main__":
    main()
