"""Compiled programs of a training, shared by all its seeds: initialization, training steps and evaluation."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mmkd_jax import tasks
from mmkd_jax.core import sharding
from mmkd_jax.core.model import predict
from mmkd_jax.data.in_memory import InMemory
from mmkd_jax.errors import UserError
from mmkd_jax.training.memory import readable
from mmkd_jax.training.operations import flops
from mmkd_jax.training.read_columns import label_check
from mmkd_jax.training.training import Training

NEVER = 2**31 - 1


class Program(NamedTuple):
    """Compiled programs of a training, shared by all its seeds.

    Attributes:
        start: `(key, variables, hyperparams) -> (state, frozen)`.
        zero_metrics: `(state, frozen) -> metrics`, all sums zero.
        advance: `(state, metrics, frozen, source, steps) -> (state, metrics)`. Adds the metrics of the steps one after
            the other, so that the sums are bitwise independent of the number of steps per call. `source` is
            `loader.arrays()` for data in memory, otherwise an iterator over batches.
        step: `(state, frozen, batch) -> (state, metrics)`, a single step.
        measure: `(variables, batch) -> (metrics, broken, rows)` of the evaluated model, as from `tasks.measure`.
        task: the task, which maps these to the reported scores.
        flops: `() -> int`, operations of a step over the global batch; cached.
        needs: `() -> str`, memory of a compiled step according to XLA's memory analysis.
    """

    start: Callable
    zero_metrics: Callable
    advance: Callable
    step: Callable
    measure: Callable
    task: tasks.Task
    flops: Callable[[], int]
    needs: Callable[[], str]


def compile_training(training: Training) -> Program:
    """Build the programs of a training, data-parallel over all devices; each compiles on its first call."""
    step, data = training.step, training.data_with_cache
    mesh = sharding.make_mesh() if jax.device_count() > 1 else None
    if mesh is not None:
        sharding.check_divides(data.batch_size, mesh)
    compiled = sharding.compile_step(step, mesh=mesh)

    def zero_metrics(state, frozen):
        _, metrics = jax.eval_shape(step, state, frozen, training.spec)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics)
        return zeros | {"broken": dict.fromkeys(_values(metrics), jnp.int32(NEVER))}

    def gather(metrics, new_metrics, step):
        """Add metrics, and record for each value the first step at which it was not finite."""
        first = {
            k: jnp.minimum(metrics["broken"][k], jnp.where(jnp.isfinite(v), NEVER, step))
            for k, v in _values(new_metrics).items()
        }
        return jax.tree.map(jnp.add, {k: metrics[k] for k in new_metrics}, new_metrics) | {"broken": first}

    together = jax.jit(gather)
    check_labels = functools.cache(lambda: label_check(training))

    def within(state, metrics, frozen, arrays, steps):
        assert isinstance(data, InMemory)

        def one(_, now):
            batch = data.batch(arrays, now[0].key, now[0].step)
            state, new_metrics = step(now[0], frozen, batch if mesh is None else sharding.constrain_batch(batch, mesh))
            return state, gather(now[1], new_metrics, state.step)

        return jax.lax.fori_loop(0, steps, one, (state, metrics))

    def from_host(state, metrics, frozen, batches, steps):
        for _ in range(steps):
            batch = next(batches)
            try:
                check_labels()(batch)
            except UserError as error:
                raise error.within(f"training batch of step {int(state.step) + 1}") from None
            state, new_metrics = compiled(state, frozen, batch if mesh is None else sharding.shard_batch(batch, mesh))
            metrics = together(metrics, new_metrics, state.step)
        return state, metrics

    def needs():
        state, frozen = training.abstract()
        found = jax.jit(step).lower(state, frozen, dict(training.spec)).compile().memory_analysis()
        if found is None:
            return "XLA reports no memory analysis"
        return (
            f"{readable(found.argument_size_in_bytes)} for the state, frozen models and the batch, "
            f"{readable(found.output_size_in_bytes)} for the outputs and {readable(found.temp_size_in_bytes)} for "
            f"temporaries, over {jax.device_count()} device(s)"
        )

    def measure(variables, batch):
        return tasks.measure(training.task, predict(training.networks[training.evaluate], variables, batch), batch)

    return Program(
        start=training.start if mesh is None else sharding.on_mesh(training.start, mesh),
        zero_metrics=jax.jit(zero_metrics, out_shardings=None if mesh is None else sharding.replicated(mesh)),
        advance=jax.jit(within, donate_argnums=(0, 1)) if isinstance(data, InMemory) else from_host,
        step=compiled,
        measure=jax.jit(measure),
        task=training.task,
        flops=functools.cache(lambda: flops(step, *training.abstract(), dict(training.spec))),
        needs=needs,
    )


def _values(metrics) -> dict[str, Any]:
    """Return the values that must stay finite, by name."""
    terms = {f"term {n}": total for n, (total, _) in metrics["terms"].items()}
    return terms | {f"gradient {n}": v for n, v in metrics.get("gradients", {}).items()} | {"loss": metrics["loss"]}
