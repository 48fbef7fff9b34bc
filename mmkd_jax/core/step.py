"""One training step as a pure function `(state, frozen, batch) -> (state, metrics)`."""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax

from mmkd_jax.core.aggregator import norms
from mmkd_jax.core.model import StepContext
from mmkd_jax.core.objective import shares
from mmkd_jax.core.outputs import Outputs, forward
from mmkd_jax.core.state import Distillation, DistillState, variables
from mmkd_jax.errors import UserError, choices


def make_step(distillation: Distillation, microbatches: int = 1) -> Callable:
    """Make the training step of a distillation: gradient, optimizer update, new state.

    Args:
        distillation: models, objective and optimizer.
        microbatches: number of microbatches in which the batch passes through the models. The objective sees all their
            outputs at once, so the gradient is exact for losses that couple rows, too.

    Returns:
        `step(state, frozen, batch, axis_name=None) -> (state, metrics)`; metrics is `{"loss": value, "terms": {name:
        (sum, count)}}`; with a gradient aggregator also `"gradients": {name: norm}`, the norm of the gradient of a
        term's weight · mean with respect to the trained models' parameters, over the global batch. `axis_name` names
        the device axis if the step is compiled per device.
    """
    optimizer, ema = distillation.optimizer, distillation.ema
    aggregator, augment = distillation.gradients, distillation.augment
    gradient = (
        partial(_gradient, distillation) if microbatches == 1 else partial(_accumulated, distillation, microbatches)
    )

    def step(state: DistillState, frozen, batch, axis_name: str | None = None):
        ctx = StepContext(state.step, jax.random.fold_in(state.key, state.step), True, axis_name)
        if augment is not None:  # once, for all models
            batch = augment(batch, ctx)
        value, (terms, model_state, objective_state), grads = gradient(state, frozen, batch, ctx)
        if axis_name is not None:
            value, grads = jax.lax.psum((value, grads), axis_name)
        metrics, aggregator_state = {"loss": value, "terms": terms}, state.aggregator_state
        if aggregator is not None:  # value and grads are per term
            metrics = {"loss": jnp.sum(value), "terms": terms, "gradients": _by_name(norms(grads), terms)}
            grads, aggregator_state = aggregator.apply(
                grads, _by_name(value, terms), state.aggregator_state, ctx.at("scheme").key
            )
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
        updated = {
            "model_state": model_state,
            "opt_state": opt_state,
            "objective_state": objective_state,
            "aggregator_state": aggregator_state,
        }
        new = dataclasses.replace(state, step=state.step + 1, params=params, **updated)
        current = variables(new, {})
        averaged = {n: _average(state.ema[n], current[source], decay) for n, (source, decay) in ema.items()}
        return dataclasses.replace(new, ema=averaged), metrics

    return step


def _by_name(vector, terms):
    return dict(zip(sorted(terms), vector, strict=True))


def _differentiate(aggregator, function, *at):
    """Differentiate the sum of `function(*at) -> (shares, aux)`, or each share if there is an aggregator.

    Return value, aux and gradients. Values and gradients of shares have a leading axis, in the order of their names;
    pullbacks run one after the other.
    """
    if aggregator is None:

        def whole(*at):
            each, aux = function(*at)
            return sum(each.values(), jnp.float32(0)), aux

        (value, aux), grads = jax.value_and_grad(whole, tuple(range(len(at))), has_aux=True)(*at)
        return value, aux, grads

    def apart(*at):
        each, aux = function(*at)
        return jnp.stack([each[n] for n in sorted(each)]), aux

    values, pull, aux = jax.vjp(apart, *at, has_aux=True)
    return values, aux, jax.lax.map(pull, jnp.eye(len(values), dtype=values.dtype))


def _gradient(distillation, state, frozen, batch, ctx):
    models, objective = distillation.models, distillation.objective
    trained, aggregator = distillation.trained, distillation.gradients

    def loss(params):
        outputs, model_state = forward(models, variables(state, frozen, params), batch, ctx, trained)
        terms, objective_state = objective.apply(params["objective"], state.objective_state, outputs)
        each, metrics = shares(terms, ctx.axis_name)
        return each, (metrics, model_state, objective_state)

    value, aux, (grads,) = _differentiate(aggregator, loss, state.params)
    return value, aux, grads


def _accumulated(distillation, microbatches, state, frozen, batch, ctx):
    """Run all microbatches forward, differentiate at the outputs, then compute one VJP per microbatch."""
    models, objective = distillation.models, distillation.objective
    trained, aggregator = distillation.trained, distillation.gradients
    rows = len(batch["example_id"])
    if rows % microbatches:
        raise UserError(f"a batch of {rows} rows does not divide into {microbatches} microbatches")
    micro = jax.tree.map(lambda x: x.reshape(microbatches, rows // microbatches, *x.shape[1:]), batch)

    def model_outputs(params, microbatch):
        outputs, states = forward(models, variables(state, frozen, params), microbatch, ctx, trained)
        if moving := [n for n, s in states.items() if jax.tree.leaves(s)]:
            raise UserError(
                f"model {choices(moving)} has batch statistics (BatchNorm), which microbatches would change: "
                "train it with microbatches=1, or use another normalization"
            )
        return outputs.by_model

    def outputs(whole, record=lambda scope, path: None):
        return Outputs(batch, whole, {n: partial(_no_rerun, n) for n in models}, ctx, record=record)

    read = set()  # only outputs that the objective reads are stored for all microbatches
    first = jax.tree.map(lambda x: x[0], micro)

    def trace():
        whole = jax.tree.map(lambda x: jnp.repeat(x, microbatches, 0), model_outputs(state.params, first))
        recorded = outputs(whole, lambda scope, path: read.add(tuple(path.split(".", 1))))
        return objective.apply(state.params["objective"], state.objective_state, recorded)

    jax.eval_shape(trace)

    def read_outputs(params, microbatch):
        return {
            n: {k: v for k, v in out.items() if (n, k) in read} for n, out in model_outputs(params, microbatch).items()
        }

    stacked = jax.lax.map(partial(read_outputs, state.params), micro)
    whole = jax.tree.map(lambda x: x.reshape(rows, *x.shape[2:]), stacked)
    leaves, tree = jax.tree.flatten(whole)
    smooth = [jnp.issubdtype(x.dtype, jnp.floating) for x in leaves]

    def loss(at_outputs, objective_params):
        values = iter(at_outputs)
        merged = jax.tree.unflatten(tree, [next(values) if s else x for s, x in zip(smooth, leaves, strict=True)])
        terms, objective_state = objective.apply(objective_params, state.objective_state, outputs(merged))
        each, metrics = shares(terms, ctx.axis_name)
        return each, (metrics, objective_state)

    at_outputs = [x for s, x in zip(smooth, leaves, strict=True) if s]
    value, (metrics, objective_state), grads = _differentiate(aggregator, loss, at_outputs, state.params["objective"])
    cotangents, objective_grads = grads
    terms = () if aggregator is None else value.shape
    cotangent_parts = [
        x.reshape(*terms, microbatches, rows // microbatches, *x.shape[len(terms) + 1 :]) for x in cotangents
    ]
    cotangent_parts = [jnp.moveaxis(x, len(terms), 0) for x in cotangent_parts]

    def back(grads, microbatch_and_cotangents):
        microbatch, cotangent = microbatch_and_cotangents
        model_params = {n: state.params[n] for n in trained}

        def run(params):
            values = jax.tree.leaves(read_outputs(params, microbatch))
            return [x for s, x in zip(smooth, values, strict=True) if s]

        pull = jax.vjp(run, model_params)[1]
        (microbatch_grads,) = pull(cotangent) if aggregator is None else jax.lax.map(pull, cotangent)
        return jax.tree.map(jnp.add, grads, microbatch_grads), None

    zeros = jax.tree.map(lambda x: jnp.zeros(terms + x.shape, x.dtype), {n: state.params[n] for n in trained})
    grads, _ = jax.lax.scan(back, zeros, (micro, cotangent_parts))
    return value, (metrics, state.model_state, objective_state), grads | {"objective": objective_grads}


def _no_rerun(name, *_, **__):
    raise UserError(f"model {name!r} is run again, which microbatches do not support: train with microbatches=1")


def _average(old, new, decay):
    def mix(a, b):
        return a + (1 - decay) * (b - a) if jnp.issubdtype(b.dtype, jnp.inexact) else b

    return jax.tree.map(mix, old, new)
