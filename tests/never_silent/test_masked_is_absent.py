"""Masked rows affect neither value, gradient nor state, even if they are NaN."""

import dataclasses
import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import losses, methods
from mmkd_jax.core.model import StepContext
from mmkd_jax.core.objective import combine, term, total
from mmkd_jax.core.outputs import Outputs
from mmkd_jax.errors import UserError
from tests.losses.cases import CASES
from tests.losses.harness import arrays, close, every, finite, largest, program, split_numbers
from tests.mechanisms.stages import STAGES
from tests.mechanisms.test_every_loss import EACH
from tests.small import distil, initialize, stepper

THERE = (np.nan, np.inf, -np.inf)


def spoil(x, left_out, value):
    """Floats of the rows, or of the elements, that are left out; rows may be the second axis (several teachers)."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return x
    for axis in (0, 1):
        mask = (
            left_out
            if x.shape[axis : axis + left_out.ndim] == left_out.shape
            else jnp.all(left_out, tuple(range(1, left_out.ndim)))
        )
        if x.ndim > axis and x.shape[axis] == len(mask):
            shape = (1,) * axis + mask.shape + (1,) * (x.ndim - axis - mask.ndim)
            return jnp.where(mask.reshape(shape), value, x)
    return x


def bound(case, inputs):
    """The objective of a case, its paths, and its inputs under them."""
    paths, outputs = {}, {}
    for k, x in inputs.items():
        parts = {k: x}
        paths[k] = f"m.{k}"
        if isinstance(x, tuple) and not hasattr(x, "_fields"):
            parts = {f"{k}{i}": v for i, v in enumerate(x)}
            paths[k] = tuple(f"m.{n}" for n in parts)
        outputs |= parts
    return term(case.loss, where="keep", **paths, **case.hyper), outputs


@pytest.mark.full
@every
def test_of_every_loss(case):
    """NaN or ±∞ in rows or elements outside a term's mask, in any argument of any loss → value and gradients as
    without them.
    """
    inputs = arrays(case.inputs, jnp.float32)
    objective, outputs = bound(case, inputs)
    floating = [k for k, x in outputs.items() if jnp.issubdtype(jax.tree.leaves(x)[0].dtype, jnp.floating)]
    shape = np.shape(case.reference(**case.inputs, **case.hyper))
    shape = (case.rows,) if case.couples or not shape else shape
    shape = shape[:-1] if case.loss is losses.standardize else shape  # whose values are rows of classes
    keep = jnp.arange(np.prod(shape)).reshape(shape) % 3 != 1

    @jax.jit
    def run(moving, value):
        def loss(moving):
            spoilt = jax.tree.map(partial(spoil, left_out=~keep, value=value), outputs | moving)
            seen = Outputs({"keep": keep}, {"m": spoilt}, {}, StepContext(jnp.int32(0), jax.random.key(0)))
            terms, _ = objective.apply(*objective.init(seen), seen)
            return total(terms)[0]

        return jax.value_and_grad(loss)(moving)

    moving = {k: outputs[k] for k in floating}
    expected = run(moving, 7.0)
    assert finite(expected) and largest(expected) > 0
    for there in THERE:
        close(run(moving, there), expected, 1e-6, 1e-7 * max(1.0, largest(expected)))


# losses that read only the largest logits, and only the tokens of a mask
UNREAD = {"topk_kl", "uld"}


@pytest.mark.full
@every
def test_nan_that_counts_is_seen(case):
    """NaN in a row that counts, in any argument of any loss → the loss is not finite, and training stops at this step
    by name.
    """
    inputs = arrays(case.inputs, jnp.float32)
    where = jnp.ones(case.rows, bool)
    for k in case.floating:
        for whole in (True,) if case.loss.__name__ in UNREAD else (True, False):
            spoilt = inputs | {k: jax.tree.map(lambda x, whole=whole: poison(x, whole), inputs[k])}
            numbers, _ = split_numbers(case, jnp.float32)
            others = {n: x for n, x in spoilt.items() if n not in case.floating}
            moving = {n: spoilt[n] for n in case.floating}
            (value, values), _ = program(case)(moving, others, numbers, where)
            assert not np.isfinite(values).all() and not np.isfinite(value), (k, whole)


def poison(x, whole):
    """NaN in the first row, or in its first element."""
    return x.at[0].set(jnp.nan) if whole else x.at[(0,) * x.ndim].set(jnp.nan)


def test_labels_that_do_not_count_may_be_anything():
    """Labels of −1, or beyond the classes, in rows outside the mask → ignored."""
    logits, keep = jnp.array([[0.0, 2.0], [1.0, 0.0]]), jnp.array([True, False])
    objective = term(losses.cross_entropy, logits="m.logits", labels="batch.label", where="keep")

    def value(label):
        batch = {"keep": keep, "label": jnp.stack([jnp.int32(1), label])}
        seen = Outputs(batch, {"m": {"logits": logits}}, {}, StepContext(jnp.int32(0), jax.random.key(0)))
        return total(objective.apply(*objective.init(seen), seen)[0])[0]

    for run, label in ((value, -1), (jax.jit(value), -1), (jax.jit(value), 7)):
        np.testing.assert_allclose(run(jnp.int32(label)), np.log1p(np.exp(-2.0)), rtol=1e-6)


def labelled():
    """Losses of integer labels, but for those that compare labels only with each other."""
    return [
        pytest.param(case, id=name)
        for name, case in CASES.items()
        if "labels" in case.inputs
        and np.issubdtype(np.asarray(jax.tree.leaves(case.inputs["labels"])[0]).dtype, np.integer)
        and case.loss.__name__ != "ccl"
        and not isinstance(case.inputs["labels"], tuple)
    ]


@pytest.mark.parametrize("label", [-1, 99])
@pytest.mark.parametrize("case", labelled())
def test_a_traced_label_that_is_no_class_is_nan(case, label):
    """A label out of range, in compiled code → the loss is not finite; outside compiled code, an error."""
    inputs = arrays(case.inputs, jnp.float32)
    labels = inputs["labels"]
    wrong = inputs | {"labels": labels.at[(0,) * labels.ndim].set(label)}
    values = jax.jit(lambda x: case.loss(**x, **case.hyper))(wrong)
    assert np.isnan(values).any()
    with pytest.raises(UserError, match=f"labels contain {label}"):
        case.loss(**wrong, **case.hyper)


def poisoned(model):
    """The model, whose outputs are NaN in the rows of the batch's column `poison`."""

    def apply(variables, batch, ctx, patch):
        outputs, state = model.apply(variables, batch, ctx, patch)
        rows = batch["poison"]

        def spoiled(x):
            if x.ndim == 0 or len(x) != len(rows) or not jnp.issubdtype(x.dtype, jnp.floating):
                return x
            # added, so that gradients reach the model: selecting would stop those of masked rows
            return x + jnp.where(rows.reshape(-1, *[1] * (x.ndim - 1)), jnp.nan, jnp.zeros_like(x))

        return {k: jax.tree.map(spoiled, x) for k, x in outputs.items()}, state

    return model._replace(apply=apply)


@pytest.mark.full
@pytest.mark.parametrize("stage", EACH)
def test_of_every_method(stage):
    """NaN in every model's outputs on padding rows, for any method → loss, gradients and state as without them."""
    batch = next(iter(stage.batches(1)))
    rows = len(batch["example_id"])
    clean = np.zeros(rows, bool)
    batch |= {"valid": np.arange(rows) % 4 != 1, "poison": clean}
    models = {n: poisoned(m) for n, m in stage.models.items()}
    # whose keys are any rows, which no mask is about
    parts = {k: v for k, v in stage.parts.items() if k not in ("compress", "seed")}
    distillation = distil(models, combine(**parts), rate=stage.rate, trained=stage.trained, ema=stage.ema)
    state, frozen = initialize(distillation, batch)
    step = stepper(distillation)
    expected, wanted = step(state, frozen, batch)
    after, metrics = step(state, frozen, batch | {"poison": ~batch["valid"]})
    for name, pair in wanted["terms"].items():
        assert finite(metrics["terms"][name]), name
        np.testing.assert_allclose(metrics["terms"][name], pair, 1e-5, 1e-6, err_msg=name)
    for field in dataclasses.fields(after):
        if field.name not in ("key",):
            a, b = getattr(after, field.name), getattr(expected, field.name)
            bad = [
                jax.tree_util.keystr(p)
                for (p, x), y in zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True)
                if not np.allclose(x, y, 1e-5, 1e-6)
            ]
            assert not bad, (field.name, bad)


def test_every_method_is_on_a_stage():
    there = {name.partition(",")[0] for stage in STAGES.values() for name in stage.parts}
    ours = {f"methods.{n}" for n, f in vars(methods).items() if inspect.isfunction(f)}
    assert ours - there == set()
