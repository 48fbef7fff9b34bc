"""The loop: advance, evaluate, remember the best, save, stop early, heed interruptions."""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Mapping
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
from mmkd_jax.programs import NEVER, Program, evaluate
from mmkd_jax.speed import Stopwatch, Waited
from mmkd_jax.state import variables


class Interrupted(Exception):
    """Training stopped because it was asked to; all of it is saved."""


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


def fit(
    part: Part,
    program: Program,
    seed: int,
    checkpoints: Checkpoints,
    *,
    data: Reader | None = None,
    given: Mapping[str, Any] | None = None,
    numbers: Mapping[str, float] | None = None,
    note: Callable[[int, dict[str, float], dict[str, float]], None] = lambda step, row, speed: None,
    say: Callable[[str], None] = print,
    stop: Callable[[], bool] = lambda: False,
    allow_changed_data: bool = False,
    profile: tuple[int, pathlib.Path] | None = None,
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
        note: called with the step, a line of the learning curve, and how fast it was (`speed.Stopwatch.take`).
        say: called with what a person should know.
        stop: asked about once a second while training, and after each batch while evaluating; True saves and raises
            Interrupted. Several processes stop at the same step as soon as one of them is asked.
        allow_changed_data: go on although the training data, batch size or transforms are not those of the checkpoint.
        profile: how many steps to trace, once they are compiled, and where to.

    Raises:
        Interrupted: stopped as asked; the next call goes on.
        UserError: other data or another seed than the checkpoint's; a term that is not finite, with the step; a full
            disk; a device without enough memory, with what a step needs.
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

    timed, compiled = Stopwatch(data.batch_size, program.flops, source), False
    pace = 1
    while _looked(history) < part.steps and not _patient_enough(part, meta):
        goal = min(_next(_looked(history), part.evaluate_every), _next(step, part.save_every), part.steps)
        while step < goal:
            traced = compiled and profile is not None
            began, taken = time.monotonic(), min(profile[0] if traced and profile else pace, goal - step)
            with jax.profiler.trace(str(profile[1])) if traced and profile else contextlib.nullcontext():
                state, metrics = _advance(part, program, state, metrics, frozen, source, taken)
            seconds, step = time.monotonic() - began, step + taken
            if traced and profile:
                say(f"{taken} steps up to {step} are traced in {profile[1]}")
                profile = None
            elif compiled:
                timed.add(taken, seconds)
            compiled = True
            _sound(metrics, checkpoints, saved_step)
            pace = min(parallel.of_all(_paced(pace, taken, seconds)))
            heed()
        if step == part.steps or step % part.evaluate_every == 0:
            looked_at = variables(state, frozen)[part.measured]
            scores = evaluate(program, looked_at, validation or part.validation.once(), heed)
            row = _row(step, step - _looked(history), jax.device_get(metrics), scores)
            _finite(row, checkpoints, saved_step)
            history.append(row)
            note(step, row, timed.take())
            metrics = program.nothing(state, frozen)
            if meta["best"] is None or part.keep == "last" or row[part.task.metric] > meta["best"]:
                meta |= {"best": row[part.task.metric], "best_step": step}
                best = _copy(variables(state, {}))  # the state itself is given away to the next step
        if step % part.save_every == 0 and step < part.steps:
            save()
    checkpoints.wait()
    scores = evaluate(program, best[part.measured], part.test.once(), heed)
    return Fitted(best, history, meta["best_step"], meta["best"], scores)


_copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))


def _source(data: Reader, seed: int, step: int):
    """What `Program.advance` draws from."""
    if isinstance(data, Memory):
        return parallel.everywhere(data.arrays())
    if isinstance(data, Pipeline) and jax.process_count() > 1:
        data = dataclasses.replace(data, process_index=jax.process_index(), process_count=jax.process_count())
    return Waited(data.batches(seed, step))


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


def _advance(part, program, state, metrics, frozen, source, steps):
    try:
        return jax.block_until_ready(program.advance(state, metrics, frozen, source, steps))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error) and "ut of memory" not in str(error):
            raise
        raise UserError(
            f"a device has not enough memory for a step of {part.data.batch_size} rows: {program.needs()}. Smaller "
            "batches, microbatches=2 or more, nn.remat in the models or more devices need less"
        ) from error


def _sound(metrics, checkpoints, saved_step):
    """Stop at the first value that is not finite: nothing later is of use."""
    first = {k: int(v) for k, v in jax.device_get(metrics["broken"]).items()}
    if (step := min(first.values())) < NEVER:
        which = ", ".join(k for k, v in first.items() if v == step)
        raise UserError(
            f"{which} is not finite at step {step}: lower the learning rate or look at the data; "
            f"the last checkpoint is of step {saved_step} in {checkpoints.directory}"
        )


def _finite(row, checkpoints, saved_step):
    if wrong := [k for k, v in row.items() if not np.isfinite(v)]:
        raise UserError(
            f"{', '.join(wrong)} is not finite on validation at step {row['step']}: look at the validation data; "
            f"the last checkpoint is of step {saved_step} in {checkpoints.directory}"
        )
