"""The loop: advance, evaluate, remember the best, save, stop early, heed interruptions."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax import parallel
from mmkd_jax.checkpoint import Checkpoints
from mmkd_jax.data.memory import Memory
from mmkd_jax.data.pipeline import Pipeline
from mmkd_jax.data.reader import Reader
from mmkd_jax.errors import UserError
from mmkd_jax.part import Part
from mmkd_jax.state import start, variables
from mmkd_jax.step import make_step
from mmkd_jax.views import Context


class Interrupted(Exception):
    """Training stopped because it was asked to; all of it is saved."""


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
    """

    start: Callable
    nothing: Callable
    advance: Callable
    step: Callable
    measure: Callable


class Fitted(NamedTuple):
    """What training leaves.

    Attributes:
        variables: those that the part keeps, of the best step on validation or of the last.
        history: the learning curve.
        best_step: the step of the variables.
        best: its metric on validation.
        scores: of these variables on the test rows.
    """

    variables: Any
    history: list[dict[str, float]]
    best_step: int
    best: float
    scores: dict[str, np.ndarray]


def compile_part(part: Part) -> Program:
    """The programs of a part, data-parallel over all devices; nothing is compiled before it is called."""
    step, reader = make_step(part.distillation, part.microbatches), part.reader
    mesh = parallel.make_mesh() if jax.device_count() > 1 else None
    if mesh is not None:
        parallel.check_divides(reader.batch_size, mesh)
    compiled = parallel.compile_step(step, mesh=mesh)

    def begin(key, given, numbers):
        return start(part.distillation, part.spec, key, given, numbers)

    def nothing(state, frozen):
        _, metrics = jax.eval_shape(step, state, frozen, part.spec)
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics)

    def within(state, metrics, frozen, arrays, steps):
        assert isinstance(reader, Memory)

        def one(_, now):
            batch = reader.batch(arrays, now[0].key, now[0].step)
            state, more = step(now[0], frozen, batch if mesh is None else parallel.spread(batch, mesh))
            return state, jax.tree.map(jnp.add, now[1], more)

        return jax.lax.fori_loop(0, steps, one, (state, metrics))

    def from_host(state, metrics, frozen, batches, steps):
        for _ in range(steps):
            batch = next(batches)
            part.task.check(batch)
            state, more = compiled(state, frozen, batch if mesh is None else parallel.place(batch, mesh))
            metrics = _add(metrics, more)
        return state, metrics

    def measure(variables, batch):
        ctx = Context(jnp.int32(0), jax.random.key(0), train=False)
        outputs, _ = part.models[part.measured].apply(variables, batch, ctx.at(part.measured), {})
        return part.task.metrics(outputs, batch)

    return Program(
        start=jax.jit(begin) if mesh is None else parallel.on_mesh(begin, mesh),
        nothing=jax.jit(nothing, out_shardings=None if mesh is None else parallel.replicated(mesh)),
        advance=jax.jit(within, donate_argnums=(0, 1)) if isinstance(reader, Memory) else from_host,
        step=compiled,
        measure=jax.jit(measure),
    )


def evaluate(
    program: Program, variables: Any, batches: Iterable, heed: Callable[[], None] = lambda: None
) -> dict[str, np.ndarray]:
    """Mean metrics of the measured model over batches."""
    return averaged(program.measure, variables, batches, heed)


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


def fit(
    part: Part,
    program: Program,
    seed: int,
    checkpoints: Checkpoints,
    *,
    data: Reader | None = None,
    given: Mapping[str, Any] | None = None,
    numbers: Mapping[str, float] | None = None,
    note: Callable[[int, dict[str, float]], None] = lambda step, row: None,
    say: Callable[[str], None] = print,
    stop: Callable[[], bool] = lambda: False,
    allow_changed_data: bool = False,
) -> Fitted:
    """Train one seed of a part, from its newest checkpoint where there is one, and measure what it ends with.

    Args:
        part: what to train.
        program: from `compile_part(part)`.
        seed: of the initial variables, the order of the data and all randomness.
        checkpoints: where to save and resume.
        data: the training data, if other than the part's (cached outputs added).
        given: name -> variables of models that do not start at random.
        numbers: numbers of the objective that differ from the file's.
        note: called with the step and a line of the learning curve.
        say: called with what a person should know.
        stop: asked about once a second while training, and after each batch while evaluating; True saves and raises
            Interrupted. Several processes stop at the same step as soon as one of them is asked.
        allow_changed_data: go on although the training data, batch size or transforms are not those of the checkpoint.

    Raises:
        Interrupted: stopped as asked; the next call goes on.
        UserError: other data or another seed than the checkpoint's; a metric that is not finite; a full disk.
    """
    data = data or part.data
    state, frozen = program.start(jax.random.key(seed), dict(given or {}), dict(numbers or {}))
    now = {"state": state, "metrics": program.nothing(state, frozen), "best": _copy(variables(state, {}))}
    meta: dict[str, Any] = {"history": [], "best_step": 0, "best": None, "data": dict(data.fingerprint), "seed": seed}
    meta["data"] |= part.identity
    if (found := checkpoints.restore(_like(now))) is not None:
        step, now, saved, damaged = found
        for number, reason in damaged:
            say(f"checkpoint {number} is damaged ({reason}) and kept as {number}.damaged")
        say(f"going on from step {step}")
        changed = [f"{k} was {saved['data'].get(k)}, is {meta['data'].get(k)}" for k in _unlike(saved, meta)]
        if changed and not allow_changed_data:
            raise UserError(
                f"{checkpoints.directory} was trained on other data ({'; '.join(changed)}): take the data back, "
                "start anew (--fresh), or go on with the new ones (--allow-changed-data)"
            )
        for line in changed:
            say(f"going on with other data: {line}")
        if saved["seed"] != seed:
            raise UserError(f"{checkpoints.directory} was trained with seed {saved['seed']}, not {seed}")
        meta = saved | {"data": meta["data"]}
    state, metrics, best = now["state"], now["metrics"], now["best"]
    del now
    step = saved_step = int(state.step)
    source = _source(data, seed, step)
    validation = _held(part.validation)
    history = meta["history"]

    def save():
        nonlocal saved_step
        if saved_step != step or step == 0:  # what was saved at this step, before or after a look, goes on alike
            score = history[-1][part.task.metric] if _looked(history) == step else None
            checkpoints.save(step, {"state": state, "metrics": metrics, "best": best}, meta, score)
            saved_step = step

    def heed():
        if any(parallel.of_all(stop())):
            save()
            checkpoints.wait()
            raise Interrupted(f"saved at step {step}")

    pace = 1
    while _looked(history) < part.steps and not _patient_enough(part, meta):
        goal = min(_next(_looked(history), part.evaluate_every), _next(step, part.save_every), part.steps)
        while step < goal:
            began, taken = time.monotonic(), min(pace, goal - step)
            state, metrics = program.advance(state, metrics, frozen, source, taken)
            jax.block_until_ready(metrics)
            step += taken
            pace = min(parallel.of_all(_paced(pace, taken, time.monotonic() - began)))
            heed()
        if step == part.steps or step % part.evaluate_every == 0:
            looked_at = variables(state, frozen)[part.measured]
            scores = evaluate(program, looked_at, validation or part.validation.once(), heed)
            row = _row(step, step - _looked(history), jax.device_get(metrics), scores)
            _finite(row, checkpoints, saved_step)
            history.append(row)
            note(step, row)
            metrics = program.nothing(state, frozen)
            if meta["best"] is None or part.keep == "last" or row[part.task.metric] > meta["best"]:
                meta |= {"best": row[part.task.metric], "best_step": step}
                best = _copy(variables(state, {}))  # the state itself is given away to the next step
        if step % part.save_every == 0 and step < part.steps:
            save()
    checkpoints.wait()
    scores = evaluate(program, best[part.measured], part.test.once(), heed)
    return Fitted(best, history, meta["best_step"], meta["best"], scores)


_add = jax.jit(lambda one, other: jax.tree.map(jnp.add, one, other))
_copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))


def _source(data: Reader, seed: int, step: int):
    """What `Program.advance` draws from."""
    if isinstance(data, Memory):
        return parallel.everywhere(data.arrays())
    if isinstance(data, Pipeline) and jax.process_count() > 1:
        data = dataclasses.replace(data, process_index=jax.process_index(), process_count=jax.process_count())
    return data.batches(seed, step)


def _looked(history) -> int:
    return history[-1]["step"] if history else 0


def _next(step: int, every: int) -> int:
    return (step // every + 1) * every


def _paced(pace: int, taken: int, seconds: float) -> int:
    """Steps that last about a second, so that a signal is heeded soon; the first call compiles."""
    return max(1, min(4 * pace, int(taken / max(seconds, 1e-6)), 1_000_000))


def _unlike(saved, meta) -> list[str]:
    return [k for k in {**saved["data"], **meta["data"]} if saved["data"].get(k) != meta["data"].get(k)]


def _like(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


def _held(reader: Reader) -> list[dict[str, Any]]:
    """Batches that fit are kept on the devices; others are read anew at each look."""
    return [parallel.everywhere(b) for b in reader.once()] if isinstance(reader, Memory) else []


def _patient_enough(part, meta):
    if part.patience is None or meta["best"] is None:
        return False
    return _looked(meta["history"]) - meta["best_step"] >= part.patience * part.evaluate_every


def _row(step, chunk, metrics, scores):
    terms = {f"term {n}": float(s / max(c, 1)) for n, (s, c) in metrics["terms"].items()}
    norms = {f"gradient {n}": float(v) / chunk for n, v in metrics.get("gradients", {}).items()}
    scalars = {k: float(v) for k, v in scores.items() if np.ndim(v) == 0}
    return {"step": step, "loss": float(metrics["loss"]) / chunk} | terms | norms | scalars


def _finite(row, checkpoints, saved_step):
    if wrong := [k for k, v in row.items() if not np.isfinite(v)]:
        raise UserError(
            f"{', '.join(wrong)} is not finite at step {row['step']}: lower the learning rate or look at the data; "
            f"the last checkpoint is of step {saved_step} in {checkpoints.directory}"
        )
