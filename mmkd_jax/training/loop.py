"""Training loop with periodic evaluation, checkpointing, early stopping and graceful interruption."""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax import files
from mmkd_jax.core import sharding
from mmkd_jax.core.hyperparams import hyperparams_of, with_hyperparams
from mmkd_jax.core.state import DistillState, completed, variables
from mmkd_jax.data.in_memory import InMemory
from mmkd_jax.data.loader import Loader
from mmkd_jax.errors import UserError
from mmkd_jax.training.checkpoint import Checkpoints
from mmkd_jax.training.compiled import NEVER, Program
from mmkd_jax.training.identity import Identity, check_same, differences
from mmkd_jax.training.identity import identity as identity_of
from mmkd_jax.training.memory import out_of_memory_reported
from mmkd_jax.training.read_columns import checked_batches
from mmkd_jax.training.scores import evaluate
from mmkd_jax.training.throughput import Stopwatch, Waited
from mmkd_jax.training.training import Training


class Interrupted(Exception):
    """Training stopped on request; its progress is saved."""


class Fitted(NamedTuple):
    """Result of `fit`.

    Attributes:
        variables: selected variables, of the best step on validation or of the last step; those of a partly trained
            model are those of the whole.
        history: learning curve, one row per evaluation.
        best_step: step of the selected variables.
        best: validation metric at that step.
        scores: test scores of the selected variables.
        earlier: identities that the training had before it was changed, `{"until": step, "identity": …}`.
    """

    variables: Any
    history: list[dict[str, float]]
    best_step: int
    best: float
    scores: dict[str, np.ndarray]
    earlier: Sequence[dict[str, Any]] = ()


def fit(
    training: Training,
    program: Program,
    seed: int,
    checkpoints: Checkpoints,
    *,
    data: Loader | None = None,
    initial_variables: Mapping[str, Any] | None = None,
    hyperparams: Mapping[str, float] | None = None,
    on_metrics: Callable[[int, dict[str, float], dict[str, float]], None] = lambda step, row, speed: None,
    log: Callable[[str], None] = print,
    should_stop: Callable[[], bool] = lambda: False,
    identity: Identity | None = None,
    allowed: frozenset[str] = frozenset(),
    made_with: Mapping[str, Any] | None = None,
    profile: tuple[int, pathlib.Path] | None = None,
) -> Fitted:
    """Train one seed, resuming from the newest checkpoint if any, and evaluate the selected variables on test data.

    Args:
        training: the training to run.
        program: from `compile_training(training)`.
        seed: seed of the initial variables, the data order and all other randomness.
        checkpoints: checkpoints to save to and resume from.
        data: training data to use instead of `training.data` (with cached outputs added).
        initial_variables: name -> variables of models that are not initialized at random.
        hyperparams: hyperparameters of the objective that override the file's.
        on_metrics: called with the step, a row of the learning curve, and its speed (`throughput.Stopwatch.elapsed`).
        log: called with messages for the user.
        should_stop: polled about once a second during training and after each batch during evaluation; True saves a
            checkpoint and raises Interrupted. With several processes, all stop at the same step if any returns True.
        identity: identity of the training, saved with the checkpoints; None computes it, without sources.
        allowed: aspects of the identity that may differ from the checkpoint's, as in `identity.refused`.
        made_with: JSON values saved with the checkpoints: configuration and source files.
        profile: (number of steps to trace after compilation, output directory).

    Raises:
        Interrupted: stopped on request; the next call resumes.
        UserError: an identity or seed that differs from the checkpoint's; a term that is not finite, with the step; a
            full disk; a device that runs out of memory, with the memory that a step needs.
    """
    data = data or training.data
    with out_of_memory_reported("the initial state"):
        state, frozen = program.start(jax.random.key(seed), dict(initial_variables or {}), dict(hyperparams or {}))
    now = {"state": state, "metrics": program.zero_metrics(state, frozen), "best": _copy(variables(state, {}))}
    identity = identity or identity_of(dataclasses.replace(training, data=data), hyperparams)
    meta: dict[str, Any] = {"history": [], "best_step": 0, "best": None, "seed": seed}
    meta |= {"identity": identity, "earlier": [], "made_with": dict(made_with or {})}
    try:
        found = checkpoints.restore(_like(now))
    except files.Damaged as error:
        log(f"{error}: starting from the first step")
        found = None
    if found is not None:
        step, now, saved, damaged = found
        for number, reason in damaged:
            log(f"checkpoint {number} is damaged ({reason}) and kept as {number}.damaged")
        log(f"resuming from step {step}")
        if saved["seed"] != seed:
            raise UserError(f"{checkpoints.directory} was trained with seed {saved['seed']}, not {seed}")
        check_same(checkpoints.directory, saved["identity"], identity, allowed)
        changed = [line for lines in differences(saved["identity"], identity).values() for line in lines]
        for line in changed:
            log(f"continuing after a change: {line}")
        segment = [{"until": step, "identity": saved["identity"]}] if changed and step else []
        meta = saved | {"identity": identity, "earlier": [*saved["earlier"], *segment], "made_with": meta["made_with"]}
        if changed:  # hyperparameters are part of the state
            now["state"] = _with_hyperparams_of(now["state"], state)
    state, metrics, best = now["state"], now["metrics"], now["best"]
    del now
    step = int(state.step)
    saved_step = None if found is None else step
    source = _source(data, seed, step)
    validation = _on_device(training.validation)
    history = meta["history"]

    def save():
        nonlocal saved_step
        if saved_step != step or step == 0:  # checkpoints before and after an evaluation are equivalent
            score = history[-1][training.task.metric] if _last_evaluation(history) == step else None
            checkpoints.save(step, {"state": state, "metrics": metrics, "best": best}, meta, score)
            saved_step = step

    def check_interrupt():
        if any(sharding.process_allgather(should_stop())):
            save()
            checkpoints.wait()
            raise Interrupted(f"saved at step {step}")

    def scored(variables, batches, rows, step):
        try:
            with out_of_memory_reported(f"the evaluation on {rows}"):
                return evaluate(program.task, program.measure, variables, batches, rows, check_interrupt)
        except UserError as error:
            _check_finite_variables(variables, training.evaluate, step)  # the cause, if it is not the rows
            raise error.within(f"step {step}") from error.__cause__

    if step == 0:
        _check_suspects(training, program, variables(state, frozen)[training.evaluate])
    timed, compiled = Stopwatch(data.batch_size, program.flops, source), False
    pace = 1
    while _last_evaluation(history) < training.steps and not _out_of_patience(training, meta):
        goal = min(
            _next(_last_evaluation(history), training.evaluate_every), _next(step, training.save_every), training.steps
        )
        while step < goal:
            traced = compiled and profile is not None
            began, taken = time.monotonic(), min(profile[0] if traced and profile else pace, goal - step)
            with jax.profiler.trace(str(profile[1])) if traced and profile else contextlib.nullcontext():
                with out_of_memory_reported(f"a step of {training.data.batch_size} rows", program.needs):
                    state, metrics = jax.block_until_ready(program.advance(state, metrics, frozen, source, taken))
            seconds, step = time.monotonic() - began, step + taken
            if traced and profile:
                log(f"{taken} steps up to {step} are traced in {profile[1]}")
                profile = None
            elif compiled:
                timed.add(taken, seconds)
            compiled = True
            _check_finite_steps(metrics, checkpoints, saved_step)
            pace = min(sharding.process_allgather(_next_pace(pace, taken, seconds)))
            check_interrupt()
        if step == training.steps or step % training.evaluate_every == 0:
            current = variables(state, frozen)[training.evaluate]
            batches = validation or checked_batches(training, training.validation, "validation")
            scores = scored(current, batches, "validation", step)
            row = _row(step, step - _last_evaluation(history), jax.device_get(metrics), scores)
            _check_finite_row(row, training.task.metric, checkpoints, saved_step)
            history.append(row)
            on_metrics(step, row, timed.elapsed())
            metrics = program.zero_metrics(state, frozen)
            if meta["best"] is None or training.select == "last" or row[training.task.metric] > meta["best"]:
                meta |= {"best": row[training.task.metric], "best_step": step}
                best = _copy(variables(state, {}))  # copied, because the next step donates the state
        if step % training.save_every == 0 and step < training.steps:
            save()
    checkpoints.wait()
    batches = checked_batches(training, training.test, "test")
    scores = scored(completed(best, frozen)[training.evaluate], batches, "test", meta["best_step"])
    if not np.isfinite(scores[training.task.metric]):
        raise UserError(f"{training.task.metric} is not finite on test: check the test data")
    return Fitted(
        jax.jit(training.result)(best, frozen), history, meta["best_step"], meta["best"], scores, meta["earlier"]
    )


def _with_hyperparams_of(state: DistillState, other: DistillState) -> DistillState:
    """Return a state with the hyperparameters of another."""
    values = hyperparams_of(other.objective_state), hyperparams_of({"gradients": other.aggregator_state})
    return dataclasses.replace(
        state,
        objective_state=with_hyperparams(state.objective_state, values[0]),
        aggregator_state=with_hyperparams({"gradients": state.aggregator_state}, values[1])["gradients"],
    )


_copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))


def _source(data: Loader, seed: int, step: int):
    """Return the `source` argument of `Program.advance`."""
    if isinstance(data, InMemory):
        return sharding.replicate(data.arrays())
    if jax.process_count() > 1:
        data = data.share(jax.process_index(), jax.process_count())
    return Waited(data.batches(seed, step))


def _check_suspects(training: Training, program: Program, variables: Any) -> None:
    """Raise for rows of the evaluation data in memory that are not finite and reach the metrics."""
    for rows, loader in (("validation", training.validation), ("test", training.test)):
        if not isinstance(loader, InMemory):
            continue
        floats = [x for x in loader.dataset.columns.values() if jnp.issubdtype(x.dtype, jnp.inexact)]
        if any(not np.isfinite(x).all() for x in floats):
            evaluate(program.task, program.measure, variables, loader.eval_batches(), rows)


def _last_evaluation(history) -> int:
    return history[-1]["step"] if history else 0


def _next(step: int, every: int) -> int:
    return (step // every + 1) * every


def _next_pace(pace: int, taken: int, seconds: float) -> int:
    """Number of steps that take about a second, so that signals are handled promptly; the first call compiles."""
    return max(1, min(4 * pace, int(taken / max(seconds, 1e-6)), 1_000_000))


def _like(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


def _on_device(loader: Loader) -> list[dict[str, Any]]:
    """Return in-memory batches on the devices; streamed batches are read again at each evaluation."""
    return [sharding.replicate(b) for b in loader.eval_batches()] if isinstance(loader, InMemory) else []


def _out_of_patience(training, meta):
    if training.patience is None or meta["best"] is None:
        return False
    return _last_evaluation(meta["history"]) - meta["best_step"] >= training.patience * training.evaluate_every


def _row(step, chunk, metrics, scores):
    terms = {f"term {n}": float(s / max(c, 1)) for n, (s, c) in metrics["terms"].items()}
    norms = {f"gradient {n}": float(v) / chunk for n, v in metrics.get("gradients", {}).items()}
    scalars = {k: float(v) for k, v in scores.items() if np.ndim(v) == 0}
    return {"step": step, "loss": float(metrics["loss"]) / chunk} | terms | norms | scalars


def _check_finite_steps(metrics, checkpoints, saved_step):
    """Raise if a value was not finite, naming the first step at which that happened."""
    first = {k: int(v) for k, v in jax.device_get(metrics["broken"]).items()}
    if (step := min(first.values())) < NEVER:
        which = ", ".join(k for k, v in first.items() if v == step)
        raise UserError(
            f"{which} is not finite at step {step}: lower the learning rate or check the data; "
            f"{_last_checkpoint(checkpoints, saved_step)}"
        )


def _check_finite_row(row, metric, checkpoints, saved_step):
    """Raise if the loss, a term or the headline metric is not finite; others are NaN if no row counts."""
    needed, prefixes = ("loss", metric), ("term ", "gradient ")
    if wrong := [k for k, v in row.items() if (k in needed or k.startswith(prefixes)) and not np.isfinite(v)]:
        raise UserError(
            f"{', '.join(wrong)} is not finite on validation at step {row['step']}: check the validation data; "
            f"{_last_checkpoint(checkpoints, saved_step)}"
        )


def _check_finite_variables(variables, name, step):
    """Raise if the evaluated model's variables are not finite."""
    leaves = [(p, x) for p, x in jax.tree.leaves_with_path(variables) if jnp.issubdtype(x.dtype, jnp.inexact)]
    finite = [bool(jnp.isfinite(x).all()) for _, x in leaves]
    if False in finite:
        path = jax.tree_util.keystr(leaves[finite.index(False)][0], simple=True, separator=".")
        raise UserError(
            f"{path} of {name!r} is not finite after step {step}: lower the learning rate or check the data"
        )


def _last_checkpoint(checkpoints, saved_step):
    if saved_step is None:
        return "there is no checkpoint yet"
    return f"the last checkpoint is step {saved_step} in {checkpoints.directory}"
