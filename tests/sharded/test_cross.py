"""Cross-modal methods, with their parameters, statistics, masks and noise: eight devices give what one gives."""

import jax
import numpy as np
import pytest

from mmkd_jax.objective import combine
from mmkd_jax.parallel import compile_step
from mmkd_jax.step import make_step
from tests.methods.cross import METHODS, MODELS, TRAINED
from tests.small import advance, begin, distil, gap, make_batch, make_batches

ROWS, STEPS = 32, 4


@pytest.fixture(scope="module")
def reference():
    distillation = distil(MODELS, combine(**METHODS), trained=TRAINED)
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
    moved = jax.tree.leaves(last.memory["c2kd"]["state"])
    assert not any(
        np.array_equal(x, y) for x, y in zip(moved, jax.tree.leaves(state.memory["c2kd"]["state"]), strict=True)
    )
