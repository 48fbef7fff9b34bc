"""Experiment runner: train, resume or reuse every training and seed, and write a run folder."""

import contextlib
import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from mmkd_jax import files
from mmkd_jax.core import sharding
from mmkd_jax.core.state import subtree, variables
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import run_folder
from mmkd_jax.experiment.definition import Experiment, check, source_of
from mmkd_jax.reporting import report
from mmkd_jax.reporting.loggers import Log, tensorboard
from mmkd_jax.training import checkpoint, compiled, loop, teacher_outputs
from mmkd_jax.training.init_from import PretrainedVariables
from mmkd_jax.training.training import Training

Results = dict[str, list[dict[str, Any]]]  # training -> one result per seed


class Callbacks(NamedTuple):
    """Callbacks of a run: messages, progress, and a stop request.

    Attributes:
        log: called with messages for the user.
        on_start: called with training, seed and number of steps, before the first.
        on_metrics: called with training, seed and a row of the learning curve.
        should_stop: polled during the run; True saves and raises `Interrupted`.
    """

    log: Callable[[str], None] = print
    on_start: Callable[[str, int, int], None] = lambda training, seed, steps: None
    on_metrics: Callable[[str, int, dict[str, float]], None] = lambda training, seed, row: None
    should_stop: Callable[[], bool] = lambda: False


def run(
    experiment: Experiment,
    config: Any,
    hyperparams: Mapping[str, float] | None = None,
    out: str | pathlib.Path | None = None,
    fresh: bool = False,
    observer: Callbacks = Callbacks(),  # noqa: B008  an immutable tuple of functions
    allow_changed_data: bool = False,
    cache: str | pathlib.Path | None = None,
    online: bool = False,
    only_cache: bool = False,
    profile: int | None = None,
    logs: tuple[Log, ...] = (),
    command: str = "",
) -> Results:
    """Run an experiment: train, resume or reuse every training and seed, and write the run folder.

    Several processes (`jax.distributed`) train jointly over all their devices; they share the folder, and the primary
    process writes.

    Args:
        experiment: from `load`.
        config: configuration of the experiment.
        hyperparams: hyperparameters that override the file's, see `check`.
        out: run folder; default `runs/NAME`.
        fresh: start over; the old folder is renamed, not deleted.
        observer: callbacks for messages, progress and stop requests.
        allow_changed_data: continue with data, batch size, transforms or configuration that differ from the folder's;
            changes are logged and recorded, and finished trainings are kept.
        cache: folder for the outputs of cached models; default `cache` in the run folder. Runs may share it.
        online: ignore caches and run the cached models in every step.
        only_cache: compute the caches, and run only the trainings that they depend on.
        profile: number of steps of each training to trace after compilation, into `profile/` of the run folder.
        logs: loggers of the learning curve and the speed, in addition to TensorBoard events; see `reporting.loggers`.
        command: command line of this call, which `mmkd runs` shows for resuming.

    Returns:
        Training -> one result per seed; `results.json` has the same without the learning curves.

    Raises:
        UserError: an error that the user can fix.
        training.Interrupted: stopped on request; the progress is saved.
    """
    trainings = experiment.trainings(config)
    if online:
        trainings = {n: p.without_cache() for n, p in trainings.items()}
    overrides = check(trainings, hyperparams or {})
    folder = pathlib.Path(out or pathlib.Path("runs") / experiment.name)
    configuration = {
        "experiment": experiment.name,
        "code": experiment.code,
        "config": dataclasses.asdict(config),
        "hyperparams": dict(hyperparams or {}),
        **({"online": True} if online else {}),
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(run_folder.opened(folder, configuration, fresh, observer.log, allow_changed_data))
        if sharding.is_primary_process() and command:
            files.write(folder / "command.txt", command + "\n")
        events = stack.enter_context(tensorboard(folder / "events"))
        caches = pathlib.Path(cache or folder / "cache")
        work = _Work(folder, trainings, observer, allow_changed_data, caches, profile, (events, *logs))
        for name, training in trainings.items():  # before any training starts
            try:
                training.check_data()
            except UserError as error:
                raise UserError(f"training {name!r}: {error}") from None
        if only_cache:
            return _build_caches(work, config, overrides)
        results: Results = {}
        for name, training in trainings.items():
            program = compiled.compile_training(training)
            results[name] = []
            for seed in range(config.seeds):
                results[name].append(_run_seed(work, name, program, seed, overrides[name], results))
                if any(sharding.process_allgather(observer.should_stop())):
                    raise loop.Interrupted(f"{name}, seed {seed} is done")
        if sharding.is_primary_process():
            rows = [{k: v for k, v in r.items() if k not in ("history", "data")} for rs in results.values() for r in rs]
            files.write(folder / "results.json", json.dumps({"rows": rows}, indent=1) + "\n")
            _report(folder, experiment, trainings, results)
            if experiment.report is not None:
                experiment.report(config, results, folder)
        sharding.process_allgather(0)  # wait until all files are written
    return results


class _Work(NamedTuple):
    folder: pathlib.Path
    trainings: Mapping[str, Training]
    observer: Callbacks
    allow_changed_data: bool
    caches: pathlib.Path
    profile: int | None
    logs: tuple[Log, ...]


def _build_caches(work: _Work, config: Any, overrides) -> Results:
    """Compute all caches, running only the trainings that they depend on."""
    needed: set[str] = set()
    for training in reversed(list(work.trainings.values())):
        needed |= {source_of(s)[0] for m, s in training.init_from.items() if m in training.cache and isinstance(s, str)}
    for name, training in reversed(list(work.trainings.items())):
        sources = training.init_from.values() if name in needed else ()
        needed |= {source_of(s)[0] for s in sources if isinstance(s, str)}
    results: Results = {}
    for name, training in work.trainings.items():
        program = compiled.compile_training(training)
        results[name] = []
        for seed in range(config.seeds):
            if name in needed:
                results[name].append(_run_seed(work, name, program, seed, overrides[name], results))
            elif training.cache:
                _with_records(work, training, name, seed, results)
    return {n: r for n, r in results.items() if r}


def _source_variables(work, source, seed, results):
    """Return the variables of a source: of an earlier training, or pretrained."""
    if isinstance(source, PretrainedVariables):
        return source.variables
    of, taken, inner = source_of(source)
    whole = finished(work.folder, work.trainings[of], of, seed, results[of][seed]["variables"])[taken]
    return subtree(whole, inner)


def _with_records(work, training, name, seed, results):
    """Return the training data with cached outputs; a model with a complete cache is not loaded."""
    data, observer = training.data, work.observer

    def check_interrupt():
        if any(sharding.process_allgather(observer.should_stop())):
            raise loop.Interrupted(f"before the first step of {name}, seed {seed}")

    for model in training.cache:
        source = training.init_from[model]
        if isinstance(source, PretrainedVariables):  # the same for all seeds
            known = f"{source.fingerprint}-{training.program(model)}"
            identity = {"training": "given", "model": model, "seed": known}
        else:
            of, taken, inner = source_of(source)
            identity = {"training": of, "model": taken, "inner": inner, "seed": seed}
            identity |= {"sha256": results[of][seed]["variables"]}
        records, digest = teacher_outputs.recorded(
            training,
            model,
            work.caches,
            identity,
            partial(_source_variables, work, source, seed, results),
            log=lambda line: observer.log(f"{name}, seed {seed}: {line}"),
            on_start=lambda batches, model=model: observer.on_start(f"{name}: cache of {model}", seed, batches),
            on_metrics=lambda batch, model=model: observer.on_metrics(
                f"{name}: cache of {model}", seed, {"step": batch}
            ),
            check_interrupt=check_interrupt,
        )
        data = data.with_records(records, {model: digest})
    return data


def _run_seed(work, name, program, seed, hyperparams, results) -> dict[str, Any]:
    """Train one seed and return its result; a finished one is read from the run folder."""
    folder, trainings, observer = work.folder, work.trainings, work.observer
    training, directory = trainings[name], folder / "trainings" / name / str(seed)
    if any(sharding.process_allgather((directory / "result.json").is_file())):
        result = json.loads((directory / "result.json").read_text())
        _check_pretrained(training, directory, result, work.allow_changed_data)
        observer.on_start(name, seed, 0)
        observer.log(
            f"{name}, seed {seed}: {training.task.metric} {result[training.task.metric]:.3f}, finished earlier"
        )
        return result
    began = time.perf_counter()
    given = {
        m: _source_variables(work, source, seed, results)
        for m, source in training.init_from.items()
        if m not in training.cache
    }
    data = _with_records(work, training, name, seed, results)
    observer.on_start(name, seed, training.steps)
    kept = training.keep_last, training.keep_best, training.keep_every
    speeds: dict[str, float] = {}

    def on_metrics(step, row, speed):
        speeds.update(speed)
        row = row | {f"speed {k}": v for k, v in speed.items()}
        observer.on_metrics(name, seed, row)
        for log in work.logs if sharding.is_primary_process() else ():
            log(name, seed, row)

    with contextlib.closing(checkpoint.Checkpoints(directory / "checkpoints", *kept)) as checkpoints:
        fitted = loop.fit(
            training,
            program,
            seed,
            checkpoints,
            data=data,
            given=given,
            hyperparams=hyperparams,
            on_metrics=on_metrics,
            profile=None if work.profile is None else (work.profile, folder / "profile" / name),
            log=lambda line: observer.log(f"{name}, seed {seed}: {line}"),
            should_stop=observer.should_stop,
            allow_changed_data=work.allow_changed_data,
        )
    scores = fitted.scores
    result = {
        "training": name,
        "seed": seed,
        **{k: float(v) for k, v in scores.items() if v.ndim == 0},
        "validation": fitted.best,
        "best_step": fitted.best_step,
        "steps": fitted.history[-1]["step"],
        "variables": checkpoint.write_variables(
            directory / "variables.safetensors", fitted.variables, sharding.is_primary_process()
        ),
        "per_class": {k: v.tolist() for k, v in scores.items() if v.ndim == 1},
        "history": fitted.history,
        "data": dict(data.fingerprint) | training.identity,
    }
    seconds = round(time.perf_counter() - began, 2)
    if sharding.is_primary_process():
        timings = folder / "timings.json"
        known = json.loads(timings.read_text()) if timings.is_file() else {}
        timing = {"seconds": seconds, **{k: round(v, 2) for k, v in speeds.items()}}
        files.write(timings, json.dumps(known | {f"{name}/{seed}": timing}, indent=1) + "\n")
        files.write(
            directory / "result.json", json.dumps(result, indent=1) + "\n"
        )  # last: this file marks the seed as finished
    sharding.process_allgather(0)  # other processes wait until it exists
    metric = training.task.metric
    observer.log(
        f"{name}, seed {seed}: {metric} {result[metric]:.3f} "
        f"(validation {fitted.best:.3f} at step {fitted.best_step}), {seconds} s"
    )
    return result


def _check_pretrained(training, directory, result, allowed):
    """Raise if a finished result used other pretrained variables."""
    was, now = ({k: v for k, v in x.items() if k.startswith("init_from ")} for x in (result["data"], training.identity))
    if was != now and not allowed:
        changed = ", ".join(sorted(k for k in was | now if was.get(k) != now.get(k)))
        raise UserError(
            f"{directory} was trained with other weights ({changed}): start over (--fresh), or keep the finished "
            "results (--allow-changed-data)"
        )


def _report(folder, experiment, trainings, results):
    """Write the table, the figures, and some validation examples with the predictions of each training."""
    first = next(iter(trainings.values()))
    task, classes = first.task, first.data.dataset.about.get("classes")
    report.write(folder, results, task.metric, experiment.baseline, experiment.name, classes, task.share)
    batch = {k: v[:8] for k, v in next(iter(first.validation.eval_batches())).items()}
    inputs = [k for k in ("image", "audio") if k in batch]
    if not inputs:
        return
    predictions = {}
    for name, training in trainings.items():
        final = finished(folder, training, name, 0, results[name][0]["variables"])[training.evaluate]
        predict = jax.jit(
            lambda *given, training=training: training.task.predict(training.run(training.evaluate)(*given))
        )
        predictions[name] = np.asarray(predict(final, batch))
    rows = []
    for i in range(len(batch["example_id"])):
        lines = [f"label {batch['label'][i]}"] if "label" in batch else []
        lines += [f"{name} {p[i]}" for name, p in predictions.items()]
        rows.append({k: batch[k][i] for k in inputs} | {"caption": "\n".join(lines)})
    report.examples(rows, folder / "figures" / "examples.png")


def finished(folder: pathlib.Path, training: Training, name: str, seed: int, sha256: str) -> dict[str, Any]:
    """Load the final variables of a training: model -> variables."""
    state, _ = training.abstract()
    path = folder / "trainings" / name / str(seed) / "variables.safetensors"
    return checkpoint.read_variables(path, variables(state, {}), sha256)
