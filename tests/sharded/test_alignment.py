"""Methods that align the features of a batch: eight devices give what one gives."""

import jax
import numpy as np
import pytest

from mmkd_jax import losses, methods
from mmkd_jax.objective import combine
from mmkd_jax.parallel import compile_step
from mmkd_jax.step import make_step
from tests.small import CLASSES, advance, begin, distil, gap, make_batch, make_batches, net, task

ROWS, STEPS = 32, 4
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
    distillation = distil(MODELS, combine(**TERMS))
    state, frozen = begin(distillation, make_batch(rows=ROWS))
    step = compile_step(make_step(distillation), donate=False)
    return distillation, state, frozen, advance(step, state, frozen, make_batches(STEPS, ROWS))


@pytest.mark.parametrize("form", ["jit", "shard_map"])
def test_steps_agree_with_one_device(form, mesh, reference):
    distillation, state, frozen, (last, values, terms) = reference
    step = compile_step(make_step(distillation), form, mesh, donate=False)
    here, spread, each = advance(step, state, frozen, make_batches(STEPS, ROWS))
    np.testing.assert_allclose(spread, values, rtol=1e-5)
    assert {"labels.agreement", "labels.labels"} < set(terms)
    for name in terms:
        np.testing.assert_allclose(each[name], terms[name], rtol=1e-4, atol=1e-6, err_msg=name)
    assert gap(here.params, last.params) < 1e-5
    assert all(not np.array_equal(x, y) for x, y in zip(*moved(state, last), strict=True))


def moved(*states):
    """What the methods train, but for biases, which a correlation does not see."""
    leaves = (jax.tree.leaves_with_path(s.params["objective"]) for s in states)
    return [[x for path, x in found if "kernel" in str(path[-1])] for found in leaves]
