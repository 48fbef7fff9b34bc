"""One training step as a pure function `(state, frozen, batch) -> (state, metrics)`."""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax

from mmkd_jax.errors import UserError, choices
from mmkd_jax.objective import total
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
        count)}}`. `axis` names the device axis where the step is compiled per device.
    """
    models, _, optimizer, trained, ema = distillation
    gradient = (
        partial(_gradient, distillation) if microbatches == 1 else partial(_accumulated, distillation, microbatches)
    )

    def step(state: DistillState, frozen, batch, axis: str | None = None):
        ctx = Context(state.step, jax.random.fold_in(state.key, state.step), True, axis)
        value, (terms, model_state, memory), grads = gradient(state, frozen, batch, ctx)
        if axis is not None:
            value, grads = jax.lax.psum((value, grads), axis)
        with jax.numpy_dtype_promotion("standard"):  # optax's own arithmetic mixes dtypes
            updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
        moved = {"model_state": model_state, "opt_state": opt_state, "memory": memory}
        new = dataclasses.replace(state, step=state.step + 1, params=params, **moved)
        now = variables(new, {})
        averaged = {n: _average(state.ema[n], now[source], decay) for n, (source, decay) in ema.items()}
        return dataclasses.replace(new, ema=averaged), {"loss": value, "terms": terms}

    return step


def _gradient(distillation, state, frozen, batch, ctx):
    models, objective, _, trained, _ = distillation

    def loss(params):
        views, model_state = forward(models, variables(state, frozen, params), batch, ctx, trained)
        terms, memory = objective.apply(params["objective"], state.memory, views)
        value, metrics = total(terms, ctx.axis)
        return value, (metrics, model_state, memory)

    (value, aux), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
    return value, aux, grads


def _accumulated(distillation, microbatches, state, frozen, batch, ctx):
    """Forward every microbatch, one gradient at the outputs, then one VJP a microbatch."""
    models, objective, _, trained, _ = distillation
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
        value, metrics = total(terms, ctx.axis)
        return value, (metrics, memory)

    at_outputs = [x for s, x in zip(smooth, leaves, strict=True) if s]
    (value, (metrics, memory)), (cotangents, objective_grads) = jax.value_and_grad(loss, (0, 1), has_aux=True)(
        at_outputs, state.params["objective"]
    )
    parts = [x.reshape(microbatches, rows // microbatches, *x.shape[1:]) for x in cotangents]

    def back(grads, part_and_cotangents):
        part, cotangent = part_and_cotangents
        model_params = {n: state.params[n] for n in trained}

        def run(params):
            here = jax.tree.leaves(kept(params, part))
            return [x for s, x in zip(smooth, here, strict=True) if s]

        (more,) = jax.vjp(run, model_params)[1](cotangent)
        return jax.tree.map(jnp.add, grads, more), None

    zeros = jax.tree.map(jnp.zeros_like, {n: state.params[n] for n in trained})
    grads, _ = jax.lax.scan(back, zeros, (micro, parts))
    return value, (metrics, state.model_state, memory), grads | {"objective": objective_grads}


def _no_rerun(name, *_, **__):
    raise UserError(f"model {name!r} is run again, which microbatches cannot do: train with microbatches=1")


def _average(old, new, decay):
    def mix(a, b):
        return a + (1 - decay) * (b - a) if jnp.issubdtype(b.dtype, jnp.inexact) else b

    return jax.tree.map(mix, old, new)
