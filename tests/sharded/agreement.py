"""What methods owe on eight devices: the steps of one."""

from typing import Any, NamedTuple

import numpy as np

from mmkd_jax.core.objective import combine
from mmkd_jax.core.sharding import compile_step
from mmkd_jax.core.step import make_step
from tests.small import advance, distil, gap, initialize, make_batches

ROWS = 32


class OneDevice(NamedTuple):
    """A run of some steps on one device.

    Attributes:
        distillation: who learns from what.
        begin: the state before the first step.
        frozen: the frozen variables.
        days: a batch a step.
        end: the state after the last step.
        values: the loss of each step.
        terms: each term's mean in each step.
    """

    distillation: Any
    initialize: Any
    frozen: Any
    days: list
    end: Any
    values: Any
    terms: dict


def on_one_device(models, terms, days, **more):
    """The run; `days` is a batch a step, or the number of steps on the usual ones."""
    days = make_batches(days, ROWS) if isinstance(days, int) else days
    distillation = distil(models, combine(**terms), **more)
    state, frozen = initialize(distillation, days[0])
    step = compile_step(make_step(distillation), donate=False)
    return OneDevice(distillation, state, frozen, days, *advance(step, state, frozen, days))


def agrees(reference, form, mesh, rtol=2e-5, atol=1e-6, apart=1e-5):
    """The steps in a form over the mesh give losses, terms and parameters of one device; the state they end with."""
    step = compile_step(make_step(reference.distillation), form, mesh, donate=False)
    here, spread, each = advance(step, reference.initialize, reference.frozen, reference.days)
    np.testing.assert_allclose(spread, reference.values, rtol=1e-5)
    for name, value in reference.terms.items():
        np.testing.assert_allclose(each[name], value, rtol=rtol, atol=atol, err_msg=name)
    assert gap(here.params, reference.end.params) < apart
    return here
