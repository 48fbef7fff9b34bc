"""Methods with parameters, BatchNorm, masks and statistics of their own: eight devices give what one gives."""

import jax
import numpy as np
import pytest

from mmkd_jax import methods
from mmkd_jax.objective import combine
from mmkd_jax.parallel import compile_step
from mmkd_jax.step import make_step
from tests.methods.trained import MAPS, MODELS
from tests.small import advance, begin, distil, gap, make_batch, make_batches, task

ROWS, STEPS = 32, 5
BEFORE_RELU = {side: path.replace("hidden", "preactivation") for side, path in MAPS.items()}
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
    for name in terms:
        np.testing.assert_allclose(each[name], terms[name], rtol=2e-5, atol=1e-6, err_msg=name)
    assert gap(here.params, last.params) < 1e-5 and gap(here.memory, last.memory) < 1e-5
    for x, y in zip(*(jax.tree.leaves(s.memory["ofd"]["margin"]) for s in (state, last)), strict=True):
        assert not np.array_equal(x, y)
