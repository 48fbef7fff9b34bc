"""Methods that align the features of a batch: eight devices give what one gives."""

import jax
import numpy as np
import pytest

from mmkd_jax import losses, methods
from tests.sharded.agreement import agrees, on_one_device
from tests.small import CLASSES, net, task

MODELS = {"teacher": net(6, "image", "audio"), "student": net(5, "image", "audio")}
SIDES = ("student.features.image", "student.features.audio")
TERMS = {
    "task": task(where="labelled"),
    "features": methods.feature_alignment(losses.info_nce, width=4, weight=0.1, where="present.audio"),
    "subspaces": methods.subspace_alignment(losses.cca, width=3, r1=0.1, r2=0.1, weight=0.1),
    "distributions": methods.subspace_alignment(losses.mmd, weight=0.1),
    "transport": methods.subspace_alignment(losses.sinkhorn, iterations=10, weight=0.1),
    "labels": methods.label_alignment(
        losses.agreement_jsd, SIDES, classes=CLASSES, present=("valid", "present.audio"), labelled="labelled"
    ),
}


@pytest.fixture(scope="module")
def reference():
    return on_one_device(MODELS, TERMS, 4)


@pytest.mark.parametrize("form", ["jit", "shard_map"])
def test_steps_agree_with_one_device(form, mesh, reference):
    agrees(reference, form, mesh, rtol=1e-4)
    assert {"labels.agreement", "labels.labels"} < set(reference.terms)
    assert all(not np.array_equal(x, y) for x, y in zip(*moved(reference.initialize, reference.end), strict=True))


def moved(*states):
    """What the methods train, but for biases, which a correlation does not see."""
    leaves = (jax.tree.leaves_with_path(s.params["objective"]) for s in states)
    return [[x for path, x in found if "kernel" in str(path[-1])] for found in leaves]
