"""One training step as a pure function `(state, frozen, batch) -> (state, metrics)`."""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax

from mmkd_jax.errors import UserError, choices
from mmkd_jax.objective import shares
from mmkd_jax.schemes.scheme import norms
from mmkd_jax.state import Distillation, DistillState, variables
from mmkd_jax.views import Context, Views, forward


def make_step(distillation: Distillation, microbatches: int = 1) -> Callable:
    """The step of a distillation: gradient, optimizer, new state.

    Args:
        distillation: who learns from what.
        microbatches: parts in which the batch goes through the models. The objective sees the outputs of all of them at
            once, so that the gradient is exact for losses that couple rows, too.

    Returns:
        `step(state, frozen, batch, axis=None) -> (state, metrics)`; metrics is `{"loss": value, "terms": {name: (sum,
        count)}}`; with a gradient scheme also `"gradients": {name: norm}`, of the gradient of a term's weight · mean by
        the trained models' parameters, over the global batch. `axis` names the device axis where the step is compiled
        per device.
    """
    _, _, optimizer, _, ema, scheme, augment, _ = distillation
    gradient = (
        partial(_gradient, distillation) if microbatches == 1 else partial(_accumulated, distillation, microbatches)
    )

    def step(state: DistillState, frozen, batch, axis: str | None = None):
        ctx = Context(state.step, jax.random.fold_in(state.key, state.step), True, axis)
        if augment is not None:  # once, for all models
            batch = augment(batch, ctx)
        value, (terms, model_state, memory), grads = gradient(state, frozen, batch, ctx)
        if axis is not None:
            value, grads = jax.lax.psum((value, grads), axis)
        metrics, remembered = {"loss": value, "terms": terms}, state.scheme
        if scheme is not None:  # value and grads are still those of each term
            metrics = {"loss": jnp.sum(value), "terms": terms, "gradients": _by_name(norms(grads), terms)}
            grads, remembered = scheme.apply(grads, _by_name(value, terms), state.scheme, ctx.at("scheme").key)
        with jax.numpy_dtype_promotion("standard"):  # optax's own arithmetic mixes dtypes
            updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
        moved = {"model_state": model_state, "opt_state": opt_state, "memory": memory, "scheme": remembered}
        new = dataclasses.replace(state, step=state.step + 1, params=params, **moved)
        now = variables(new, {})
        averaged = {n: _average(state.ema[n], now[source], decay) for n, (source, decay) in ema.items()}
        return dataclasses.replace(new, ema=averaged), metrics

    return step


def _by_name(vector, terms):
    return dict(zip(sorted(terms), vector, strict=True))


def _differentiate(scheme, function, *at):
    """Value, aux and gradients of the sum of `function(*at) -> (shares, aux)`; with a scheme, of each share on its own.

    Then value and gradients have a first axis, in the order of the shares' names. One pullback after the other.
    """
    if scheme is None:

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
    models, objective, _, trained, _, scheme, *_ = distillation

    def loss(params):
        views, model_state = forward(models, variables(state, frozen, params), batch, ctx, trained)
        terms, memory = objective.apply(params["objective"], state.memory, views)
        each, metrics = shares(terms, ctx.axis)
        return each, (metrics, model_state, memory)

    value, aux, (grads,) = _differentiate(scheme, loss, state.params)
    return value, aux, grads


def _accumulated(distillation, microbatches, state, frozen, batch, ctx):
    """Forward every microbatch, one gradient at the outputs, then one VJP a microbatch."""
    models, objective, _, trained, _, scheme, *_ = distillation
    rows = len(batch["example_id"])
    if rows % microbatches:
        raise UserError(f"a batch of {rows} rows does not divide into {microbatches} microbatches")
    micro = jax.tree.map(lambda x: x.reshape(microbatches, rows // microbatches, *x.shape[1:]), batch)

    def outputs(params, part):
        views, states = forward(models, variables(state, frozen, params), part, ctx, trained)
        if moving := [n for n, s in states.items() if jax.tree.leaves(s)]:
            raise UserError(
                f"model {choices(moving)} has statistics of the batch (BatchNorm), which microbatches would change: "
                "train it with microbatches=1, or use another normalisation"
            )
        return views.outputs

    def views(whole, record=lambda scope, path: None):
        return Views(batch, whole, {n: partial(_no_rerun, n) for n in models}, ctx, record=record)

    read = set()  # only what the objective looks at is kept for all microbatches
    first = jax.tree.map(lambda x: x[0], micro)

    def look():
        whole = jax.tree.map(lambda x: jnp.repeat(x, microbatches, 0), outputs(state.params, first))
        listening = views(whole, lambda scope, path: read.add(tuple(path.split(".", 1))))
        return objective.apply(state.params["objective"], state.memory, listening)

    jax.eval_shape(look)

    def kept(params, part):
        return {n: {k: v for k, v in out.items() if (n, k) in read} for n, out in outputs(params, part).items()}

    stacked = jax.lax.map(partial(kept, state.params), micro)
    whole = jax.tree.map(lambda x: x.reshape(rows, *x.shape[2:]), stacked)
    leaves, tree = jax.tree.flatten(whole)
    smooth = [jnp.issubdtype(x.dtype, jnp.floating) for x in leaves]

    def loss(at_outputs, objective_params):
        values = iter(at_outputs)
        merged = jax.tree.unflatten(tree, [next(values) if s else x for s, x in zip(smooth, leaves, strict=True)])
        terms, memory = objective.apply(objective_params, state.memory, views(merged))
        each, metrics = shares(terms, ctx.axis)
        return each, (metrics, memory)

    at_outputs = [x for s, x in zip(smooth, leaves, strict=True) if s]
    value, (metrics, memory), grads = _differentiate(scheme, loss, at_outputs, state.params["objective"])
    cotangents, objective_grads = grads
    terms = () if scheme is None else value.shape
    parts = [x.reshape(*terms, microbatches, rows // microbatches, *x.shape[len(terms) + 1 :]) for x in cotangents]
    parts = [jnp.moveaxis(x, len(terms), 0) for x in parts]

    def back(grads, part_and_cotangents):
        part, cotangent = part_and_cotangents
        model_params = {n: state.params[n] for n in trained}

        def run(params):
            here = jax.tree.leaves(kept(params, part))
            return [x for s, x in zip(smooth, here, strict=True) if s]

        pull = jax.vjp(run, model_params)[1]
        (more,) = pull(cotangent) if scheme is None else jax.lax.map(pull, cotangent)
        return jax.tree.map(jnp.add, grads, more), None

    zeros = jax.tree.map(lambda x: jnp.zeros(terms + x.shape, x.dtype), {n: state.params[n] for n in trained})
    grads, _ = jax.lax.scan(back, zeros, (micro, parts))
    return value, (metrics, state.model_state, memory), grads | {"objective": objective_grads}


def _no_rerun(name, *_, **__):
    raise UserError(f"model {name!r} is run again, which microbatches cannot do: train with microbatches=1")


def _average(old, new, decay):
    def mix(a, b):
        return a + (1 - decay) * (b - a) if jnp.issubdtype(b.dtype, jnp.inexact) else b

    return jax.tree.map(mix, old, new)
