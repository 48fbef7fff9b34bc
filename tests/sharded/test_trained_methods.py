"""Methods with parameters, BatchNorm, masks and statistics of their own: eight devices give what one gives."""

from typing import Any

import jax
import numpy as np
import pytest

from mmkd_jax import methods
from tests.methods.trained import MAPS, MODELS
from tests.sharded.agreement import agrees, on_one_device
from tests.small import gap, task

BEFORE_RELU: dict[str, Any] = {side: path.replace("hidden", "preactivation") for side, path in MAPS.items()}
TERMS = {
    "task": task(where="labelled"),
    "vid": methods.vid(**MAPS, weight=0.1),
    "ofd": methods.ofd(**BEFORE_RELU, weight=1e-2, where="present.audio"),
    "mgd": methods.mgd(**MAPS, weight=1e-2),
    "factor": methods.factor_transfer(**MAPS, paraphrase_steps=2),
    "pad": methods.pad(**MAPS, weight=0.1),
}


@pytest.fixture(scope="module")
def reference():
    return on_one_device(MODELS, TERMS, 5)


@pytest.mark.parametrize("form", ["jit", "shard_map"])
def test_steps_agree_with_one_device(form, mesh, reference):
    here = agrees(reference, form, mesh)
    assert gap(here.objective_state, reference.end.objective_state) < 1e-5
    moved = (jax.tree.leaves(s.objective_state["ofd"]["margin"]) for s in (reference.initialize, reference.end))
    for x, y in zip(*moved, strict=True):
        assert not np.array_equal(x, y)
