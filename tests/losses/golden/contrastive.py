"""Implementations of contrastive losses."""

from tests.losses.golden.recorded import Golden

ROWS = (
    Golden("crd.*", "not offered", "methods.crd is held against a NumPy reference: banks and indices lie elsewhere."),
)
