"""Cross-modal methods, with their parameters, statistics, masks and noise: eight devices give what one gives."""

import jax
import numpy as np
import pytest

from tests.methods.cross import METHODS, MODELS, TRAINED
from tests.sharded.agreement import agrees, on_one_device
from tests.small import gap


@pytest.fixture(scope="module")
def reference():
    return on_one_device(MODELS, METHODS, 4, trained=TRAINED)


@pytest.mark.parametrize("form", ["jit", "shard_map"])
def test_steps_agree_with_one_device(form, mesh, reference):
    here = agrees(reference, form, mesh)
    assert gap(here.objective_state, reference.end.objective_state) < 1e-5
    moved = (jax.tree.leaves(s.objective_state["c2kd"]["state"]) for s in (reference.initialize, reference.end))
    assert not any(np.array_equal(x, y) for x, y in zip(*moved, strict=True))
