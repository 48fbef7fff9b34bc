"""Implementations of contrastive losses."""

from tests.losses.golden.recorded import Golden

ROWS = (
    Golden(
        "crd.*",
        "not offered",
        "The recording holds embeddings, projections and results, but neither the two banks nor the drawn rows, "
        "without which it cannot be computed; methods.crd is held against a NumPy reference.",
    ),
)
