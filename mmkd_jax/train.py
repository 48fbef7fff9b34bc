"""The loop: advance, evaluate, remember the best, save, stop early, heed interruptions."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax import parallel
from mmkd_jax.checkpoint import Checkpoints
from mmkd_jax.data.memory import Memory
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
        advance: `(state, frozen, arrays, key, steps) -> (state, metrics)`; None where batches come from the host.
        step: `(state, frozen, batch) -> (state, metrics)`.
        measure: `(variables, batch) -> {name: (sum, count)}`.
    """

    start: Callable
    advance: Callable | None
    step: Callable
    measure: Callable


class Fitted(NamedTuple):
    """What training leaves: the variables that the part keeps (best on validation, or last), and how it went."""

    variables: Any
    history: list[dict[str, float]]
    best_step: int
    best: float


def compile_part(part: Part) -> Program:
    """The programs of a part, data-parallel over all devices; nothing is compiled before it is called."""
    step, reader = make_step(part.distillation, part.microbatches), part.data
    mesh = parallel.make_mesh() if jax.device_count() > 1 else None
    if mesh is not None:
        parallel.check_divides(reader.batch_size, mesh)

    def begin(key, given, numbers):
        return start(part.distillation, part.spec, key, given, numbers)

    def advance(reader, state, frozen, arrays, key, steps):
        def one(state, _):
            batch = reader.batch(arrays, key, state.step)
            return step(state, frozen, batch if mesh is None else parallel.spread(batch, mesh))

        state, metrics = jax.lax.scan(one, state, None, steps)
        return state, jax.tree.map(lambda x: jnp.sum(x, 0), metrics)

    def measure(variables, batch):
        ctx = Context(jnp.int32(0), jax.random.key(0), train=False)
        outputs, _ = part.models[part.measured].apply(variables, batch, ctx.at(part.measured), {})
        return part.task.metrics(outputs, batch)

    pure = isinstance(reader, Memory)
    return Program(
        start=jax.jit(begin) if mesh is None else parallel.on_mesh(begin, mesh),
        advance=jax.jit(partial(advance, reader), static_argnums=4, donate_argnums=0) if pure else None,
        step=parallel.compile_step(step, mesh=mesh),
        measure=jax.jit(measure),
    )


def evaluate(program: Program, variables: Any, batches) -> dict[str, np.ndarray]:
    """Mean metrics of the measured model over batches."""
    return averaged(program.measure, variables, batches)


def averaged(measure: Callable, variables: Any, batches) -> dict[str, np.ndarray]:
    """Mean metrics over batches: sums and counts are added up before they are divided.

    Args:
        measure: `(variables, batch) -> {name: (sum, count)}`.
        variables: of the model.
        batches: each row once.
    """
    added: dict[str, tuple[jax.Array, jax.Array]] = {}
    for batch in batches:
        now = measure(variables, batch)
        added = jax.tree.map(jnp.add, added, now) if added else now
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
) -> Fitted:
    """Train one seed of a part, from its newest checkpoint where there is one.

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
        stop: asked after each chunk of steps; True saves and raises Interrupted.
    """
    data = data or part.data
    key = jax.random.key(seed)
    state, frozen = program.start(key, dict(given or {}), dict(numbers or {}))
    tree = {"state": state, "best": jax.tree.map(jnp.copy, variables(state, {}))}
    meta: dict[str, Any] = {"history": [], "best_step": 0, "best": None, "data": dict(data.fingerprint), "seed": seed}
    meta["data"] |= part.identity
    if (found := checkpoints.restore(_like(tree))) is not None:
        step, tree, saved, damaged = found
        for number, reason in damaged:
            say(f"checkpoint {number} is damaged ({reason}) and kept as {number}.damaged")
        say(f"going on from step {step}")
        if saved["data"] != meta["data"] or saved["seed"] != seed:
            changed = [k for k in meta["data"] if saved["data"].get(k) != meta["data"][k]] or ["seed"]
            raise UserError(
                f"{checkpoints.directory} was trained on other data: {', '.join(changed)} changed; "
                "take the data back, or start anew with --fresh"
            )
        meta = saved
    state, best = tree["state"], tree["best"]
    step, saved_step = int(state.step), int(state.step)
    arrays = data.arrays() if isinstance(data, Memory) else None
    batches = None if program.advance else data.batches(seed, step)
    validation = _held(part.validation)

    while step < part.steps and not _patient_enough(part, meta, step):
        chunk = min(part.evaluate_every - step % part.evaluate_every, part.steps - step)
        if program.advance:
            state, metrics = program.advance(state, frozen, arrays, key, chunk)
        else:
            state, metrics = _loop(program, state, frozen, batches, chunk, part.task.check)
        step += chunk
        now = variables(state, frozen)[part.measured]
        scores = evaluate(program, now, validation or part.validation.once())
        row = _row(step, chunk, jax.device_get(metrics), scores)
        _finite(row, checkpoints, saved_step)
        meta["history"].append(row)
        note(step, row)
        if meta["best"] is None or part.keep == "last" or row[part.task.metric] > meta["best"]:
            meta |= {"best": row[part.task.metric], "best_step": step}
            best = jax.tree.map(jnp.copy, variables(state, {}))  # the state itself is given away to the next step
        asked = stop()
        if asked or step % part.save_every < chunk and step < part.steps:
            checkpoints.save(step, {"state": state, "best": best}, meta)
            saved_step = step
        if asked:
            checkpoints.wait()
            raise Interrupted(f"saved at step {step}")
    checkpoints.wait()
    return Fitted(best, meta["history"], meta["best_step"], meta["best"])


def _like(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


def _held(reader: Reader) -> list[dict[str, Any]]:
    """Batches that fit are kept on the device; others are read anew at each look."""
    return [jax.device_put(b) for b in reader.once()] if isinstance(reader, Memory) else []


def _loop(program, state, frozen, batches, chunk, check):
    added = None
    for _ in range(chunk):
        batch = next(batches)
        check(batch)
        state, metrics = program.step(state, frozen, batch)
        added = metrics if added is None else jax.tree.map(jnp.add, added, metrics)
    return state, added


def _patient_enough(part, meta, step):
    if part.patience is None or meta["best"] is None:
        return False
    return step - meta["best_step"] >= part.patience * part.evaluate_every


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
