"""What a part compiles, once for all its seeds: its first state, its steps, its evaluation."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax import parallel
from mmkd_jax.cache import readable
from mmkd_jax.data.memory import Memory
from mmkd_jax.flops import flops
from mmkd_jax.part import Part
from mmkd_jax.views import Context

NEVER = 2**31 - 1


class Program(NamedTuple):
    """What a part compiles, once for all its seeds.

    Attributes:
        start: `(key, variables, numbers) -> (state, frozen)`.
        nothing: `(state, frozen) -> metrics` of no steps.
        advance: `(state, metrics, frozen, source, steps) -> (state, metrics)`, the metrics of these steps added to the
            given ones, one step after the other: however many steps a call makes, the sums have the same bits. The
            source is `reader.arrays()` of data in memory, else an iterator over batches.
        step: `(state, frozen, batch) -> (state, metrics)`.
        measure: `(variables, batch) -> {name: (sum, count)}`.
        scores: what their means over all rows come to.
        flops: `() -> operations of a step` over the global batch, counted once.
        needs: `() -> text`: the memory that a compiled step needs on a device, by XLA's analysis.
    """

    start: Callable
    nothing: Callable
    advance: Callable
    step: Callable
    measure: Callable
    scores: Callable
    flops: Callable[[], int]
    needs: Callable[[], str]


def compile_part(part: Part) -> Program:
    """The programs of a part, data-parallel over all devices; nothing is compiled before it is called."""
    step, reader = part.step, part.reader
    mesh = parallel.make_mesh() if jax.device_count() > 1 else None
    if mesh is not None:
        parallel.check_divides(reader.batch_size, mesh)
    compiled = parallel.compile_step(step, mesh=mesh)

    def nothing(state, frozen):
        _, metrics = jax.eval_shape(step, state, frozen, part.spec)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics)
        return zeros | {"broken": dict.fromkeys(_values(metrics), jnp.int32(NEVER))}

    def gather(metrics, more, step):
        """The sums go on; of each value the first step at which it was not finite is kept."""
        first = {
            k: jnp.minimum(metrics["broken"][k], jnp.where(jnp.isfinite(v), NEVER, step))
            for k, v in _values(more).items()
        }
        return jax.tree.map(jnp.add, {k: metrics[k] for k in more}, more) | {"broken": first}

    together = jax.jit(gather)

    def within(state, metrics, frozen, arrays, steps):
        assert isinstance(reader, Memory)

        def one(_, now):
            batch = reader.batch(arrays, now[0].key, now[0].step)
            state, more = step(now[0], frozen, batch if mesh is None else parallel.spread(batch, mesh))
            return state, gather(now[1], more, state.step)

        return jax.lax.fori_loop(0, steps, one, (state, metrics))

    def from_host(state, metrics, frozen, batches, steps):
        for _ in range(steps):
            batch = next(batches)
            part.task.check(batch)
            state, more = compiled(state, frozen, batch if mesh is None else parallel.place(batch, mesh))
            metrics = together(metrics, more, state.step)
        return state, metrics

    def needs():
        state, frozen = part.abstract()
        found = jax.jit(step).lower(state, frozen, dict(part.spec)).compile().memory_analysis()
        if found is None:
            return "the compiler does not say what it needs"
        return (
            f"{readable(found.argument_size_in_bytes)} for the state, frozen models and the batch, "
            f"{readable(found.output_size_in_bytes)} for what comes out, and {readable(found.temp_size_in_bytes)} in "
            f"between, on {jax.device_count()} device(s) together"
        )

    def measure(variables, batch):
        ctx = Context(jnp.int32(0), jax.random.key(0), train=False)
        outputs, _ = part.models[part.measured].apply(variables, batch, ctx.at(part.measured), {})
        return part.task.metrics(outputs, batch)

    return Program(
        start=part.start if mesh is None else parallel.on_mesh(part.start, mesh),
        nothing=jax.jit(nothing, out_shardings=None if mesh is None else parallel.replicated(mesh)),
        advance=jax.jit(within, donate_argnums=(0, 1)) if isinstance(reader, Memory) else from_host,
        step=compiled,
        measure=jax.jit(measure),
        scores=part.task.scores,
        flops=functools.cache(lambda: flops(step, *part.abstract(), dict(part.spec))),
        needs=needs,
    )


def evaluate(
    program: Program, variables: Any, batches: Iterable, heed: Callable[[], None] = lambda: None
) -> dict[str, np.ndarray]:
    """The measured model's scores over batches."""
    return program.scores(averaged(program.measure, variables, batches, heed))


def averaged(
    measure: Callable, variables: Any, batches: Iterable, heed: Callable[[], None] = lambda: None
) -> dict[str, np.ndarray]:
    """Mean metrics over batches: sums and counts are added up before they are divided.

    Args:
        measure: `(variables, batch) -> {name: (sum, count)}`.
        variables: of the model.
        batches: each row once.
        heed: called after each batch; may raise Interrupted.
    """
    added: dict[str, tuple[jax.Array, jax.Array]] = {}
    for batch in batches:
        now = measure(variables, batch)
        jax.block_until_ready(added)  # one batch ahead, no more: a signal is then heeded between two batches
        added = _add(added, now) if added else now
        heed()
    return {k: np.asarray(np.float64(s) / np.maximum(np.float64(c), 1)) for k, (s, c) in added.items()}


def _values(metrics) -> dict[str, Any]:
    """What must be finite, by name."""
    terms = {f"term {n}": total for n, (total, _) in metrics["terms"].items()}
    return terms | {f"gradient {n}": v for n, v in metrics.get("gradients", {}).items()} | {"loss": metrics["loss"]}


_add = jax.jit(lambda one, other: jax.tree.map(jnp.add, one, other))
