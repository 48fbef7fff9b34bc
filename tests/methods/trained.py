"""What the tests of methods that train parameters of their own share."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax.core.model import StepContext, linen
from mmkd_jax.core.objective import combine, total
from mmkd_jax.core.outputs import forward
from mmkd_jax.models import ImageCNN, Multimodal
from tests.small import (
    CLASSES,
    advance,
    distil,
    equal,
    gap,
    initialize,
    make_batch,
    make_batches,
    on_device,
    set_hyperparams,
    stepper,
    task,
)

TEACHER, STUDENT = 5, 4  # channels
MAPS: dict[str, Any] = {side: f"{side}.hidden.image.0" for side in ("student", "teacher")}


def seeing(channels):
    """A model with a feature map of the image."""
    return linen(Multimodal({"image": ImageCNN((channels,))}, classes=CLASSES, width=6, batch_norm=True))


MODELS = {"teacher": seeing(TEACHER), "student": seeing(STUDENT)}


def first_outputs(step=0, batch=None, train=True):
    """The outputs of a step, not compiled with what looks at them."""
    key, batch = jax.random.key(3), on_device(batch or make_batch())

    @jax.jit
    def model_outputs(batch):
        variables = {n: m.init(jax.random.fold_in(key, i), batch) for i, (n, m) in enumerate(MODELS.items())}
        return forward(MODELS, variables, batch, StepContext(0, key))[0].by_model

    outputs, _ = forward({}, {}, batch, StepContext(jnp.int32(step), jax.random.fold_in(key, step), train))
    return dataclasses.replace(outputs, by_model=model_outputs(batch))


def gradients(method, outputs=None, state=None):
    """By the method's parameters and by all that the models gave; masks have none, which is 0 here."""
    outputs = first_outputs() if outputs is None else outputs
    params, fresh = method.init(outputs)

    @jax.jit
    def loss(params, model_outputs):
        here = dataclasses.replace(outputs, by_model=model_outputs)
        return total(method.apply(params, fresh if state is None else state, here)[0])[0]

    found = jax.grad(loss, (0, 1), allow_int=True)(params, outputs.by_model)
    return jax.tree.map(lambda g: np.zeros(g.shape) if g.dtype == jax.dtypes.float0 else g, found)


def everything_learns(method, paths=MAPS, weight="own.weight"):
    """Each parameter gets a gradient and moves; the student's gradient is another one than without; the teacher's is 0.

    Returns the state before and after ten steps, and each term's mean in each step.
    """
    to_params, to_outputs = gradients(method)
    to_student, to_teacher = (to_outputs[side][path.partition(".")[2]] for side, path in paths.items())
    assert float(jnp.abs(to_student).max()) > 1e-6
    assert not any(np.any(g) for g in jax.tree.leaves(to_outputs["teacher"])) and not np.any(to_teacher)
    assert all(float(jnp.abs(g).max()) > 1e-9 for g in jax.tree.leaves(to_params))

    distillation = distil(MODELS, combine(task=task(), own=method))
    step, (state, frozen) = stepper(distillation), initialize(distillation)
    before = jax.tree.map(np.array, frozen)
    assert "batch_stats" in before["teacher"]
    last, _, terms = advance(step, state, frozen, make_batches())
    assert equal(frozen, before)
    for x, y in zip(*(jax.tree.leaves(s.params["objective"]["own"]) for s in (state, last)), strict=True):
        assert not np.array_equal(x, y)
    without = step(set_hyperparams(state, {weight: 0.0}), frozen, make_batch())[0]
    assert gap(without.params["student"], step(state, frozen, make_batch())[0].params["student"]) > 1e-5
    return state, last, terms
