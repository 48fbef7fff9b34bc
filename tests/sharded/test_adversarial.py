"""Attacks with a start of each row's own, and a discriminator: eight devices give what one gives."""

import numpy as np
import pytest

from mmkd_jax import methods
from mmkd_jax.objective import combine
from mmkd_jax.parallel import compile_step
from mmkd_jax.step import make_step
from tests.small import advance, begin, distil, gap, make_batch, make_batches, net

ROWS, STEPS = 32, 3
ATTACK = {"steps": 2, "eps": 0.1, "step_size": 0.05, "low": None, "high": None}
TERMS = {
    "iad": methods.iad("image", **ATTACK, alpha=0.5, where="labelled"),
    "adaad": methods.adaad("image", **ATTACK, norm="l2", alpha=0.5),
    "fool": methods.discriminator(student="student.logits", teacher="teacher.logits", hidden=4),
}


@pytest.fixture(scope="module")
def reference():
    models = {"teacher": net(6), "student": net(8, batch_norm=True)}
    distillation = distil(models, combine(**TERMS))
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
        np.testing.assert_allclose(each[name], terms[name], rtol=1e-4, atol=1e-5, err_msg=name)
    assert gap(here.params, last.params) < 1e-4
    assert gap(state.params["objective"]["fool"], last.params["objective"]["fool"]) > 1e-4
