"""A partly trained model with a BatchNorm: eight devices give what one gives, and frozen kernels stay as they were."""

import jax
import numpy as np
import pytest

from mmkd_jax.core.model import FROZEN
from mmkd_jax.models import low_rank
from tests.sharded.agreement import agrees, on_one_device
from tests.small import net, soft, task

HEAD = ("BatchNorm_0", "Classifier_0")
STUDENT = low_rank(net(8, batch_norm=True), 2, targets="encoders_image", trained=HEAD)


@pytest.fixture(scope="module")
def reference():
    return on_one_device({"teacher": net(6), "student": STUDENT}, {"task": task(where="labelled"), "soft": soft()}, 3)


@pytest.mark.parametrize("form", ["jit", "shard_map"])
def test_steps_agree_with_one_device(form, mesh, reference):
    state = agrees(reference, form, mesh)
    first, last = (jax.tree.leaves(s.params["student"]) for s in (reference.initialize, state))
    assert all(not np.array_equal(a, b) for a, b in zip(first, last, strict=True))
    assert set(reference.frozen["student"]) == {FROZEN} and FROZEN not in state.model_state["student"]
