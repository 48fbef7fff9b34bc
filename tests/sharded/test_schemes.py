"""Gradient schemes see the global batch: eight devices give what one gives."""

import jax
import numpy as np
import pytest

from mmkd_jax import gradients
from mmkd_jax.core.sharding import compile_step
from mmkd_jax.core.step import make_step
from tests.gradients.test_in_a_step import ALL, MODELS, OBJECTIVE
from tests.small import advance, distil, gap, initialize, make_batches


@pytest.mark.parametrize("form", ["jit", "shard_map"])
@pytest.mark.parametrize("name", ["gradnorm", "pcgrad", "cagrad", "uncertainty"])
def test_steps_agree_with_one_device(name, form, mesh):
    distillation = distil(MODELS, OBJECTIVE, gradients=ALL[name])
    state, frozen = initialize(distillation)
    last, values, _ = advance(compile_step(make_step(distillation), donate=False), state, frozen, make_batches(3))
    step = compile_step(make_step(distillation), form, mesh, donate=False)
    here, spread, _ = advance(step, state, frozen, make_batches(3))
    near = 1e-4 if name == "cagrad" else 2e-5  # its optimum is flat: rounding moves the weights a little
    np.testing.assert_allclose(spread, values, rtol=near)
    assert gap(here.params, last.params) < near
    for x, y in zip(jax.tree.leaves(here.aggregator_state), jax.tree.leaves(last.aggregator_state), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_norms_are_of_the_global_batch_with_microbatches_too(mesh):
    distillation = distil(MODELS, OBJECTIVE, gradients=gradients.total())
    state, frozen = initialize(distillation)
    (batch,) = make_batches(1)
    _, one = compile_step(make_step(distillation), donate=False)(state, frozen, batch)
    _, many = compile_step(make_step(distillation, 2), "shard_map", mesh, donate=False)(state, frozen, batch)
    for name, norm in one["gradients"].items():
        np.testing.assert_allclose(many["gradients"][name], norm, rtol=1e-5)
