"""Experiment runner: train, resume or reuse every training and seed, and write a run folder."""

import contextlib
import dataclasses
import functools
import json
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mmkd_jax import files, variables_file
from mmkd_jax.core import sharding
from mmkd_jax.core.state import subtree
from mmkd_jax.deploy.exported import Exported
from mmkd_jax.deploy.program import export_training
from mmkd_jax.errors import UserError, choices, shown
from mmkd_jax.experiment import final_report, run_folder, saved, students
from mmkd_jax.experiment.callbacks import Callbacks
from mmkd_jax.experiment.definition import Experiment, blamed, check_with_shapes, source_of
from mmkd_jax.experiment.source_files import record_sources, source_files
from mmkd_jax.reporting.loggers import tensorboard
from mmkd_jax.run_options import RunOptions
from mmkd_jax.training import checkpoint, compiled, loop, teacher_outputs
from mmkd_jax.training.identity import Identity, check_same, identity
from mmkd_jax.training.init_from import PretrainedVariables
from mmkd_jax.training.memory import check_memory, out_of_memory_reported
from mmkd_jax.training.read_columns import check_data
from mmkd_jax.training.training import Training

Results = dict[str, list[dict[str, Any]]]  # training -> one result per seed
_DEFAULTS, _PRINTING = RunOptions(), Callbacks()
_MOST_SEEDS = 1_000_000


def run(
    experiment: Experiment,
    config: Any = None,
    hyperparams: Mapping[str, float] | None = None,
    options: RunOptions = _DEFAULTS,
    callbacks: Callbacks = _PRINTING,
) -> Results:
    """Run an experiment: train, resume or reuse every training and seed, and write the run folder.

    Several processes (`jax.distributed`) train jointly over all their devices; they share the folder, and the primary
    process writes.

    Args:
        experiment: from `load`.
        config: configuration of the experiment; None is that of the file.
        hyperparams: dotted name -> value that overrides the file's: `objective.TERM.NAME` for all trainings, or
            `TRAINING.objective.TERM.NAME` for one.
        options: options of the run, such as its folder.
        callbacks: callbacks for messages, progress and stop requests.

    Returns:
        Training -> one result per seed; `results.json` has the same without the learning curves.

    Raises:
        UserError: an error that the user can fix.
        training.Interrupted: stopped on request; the progress is saved.
    """
    with _opened(experiment, config, hyperparams, options, callbacks) as work:
        results: Results = {}
        for name, training in work.trainings.items():
            program = compiled.compile_training(training)
            export = functools.cache(functools.partial(_exported, training.merged))  # of all its seeds
            log = functools.cache(callbacks.log)  # prints a line once, however many seeds log it
            results[name] = []
            for seed in range(work.config.seeds):
                results[name].append(result := _run_seed(work, name, program, seed, results))
                about = saved.directory_of(work.folder, name, seed), experiment.name, training.merged, export, result
                sharding.on_primary(functools.partial(students.write, *about, log))
                if any(sharding.process_allgather(callbacks.should_stop())):
                    raise loop.Interrupted(f"{name}, seed {seed} is done")

        def write():
            rows = [_row(result) for seeds in results.values() for result in seeds]
            files.write(work.folder / "results.json", json.dumps({"rows": rows}, indent=1) + "\n")
            final = functools.cache(lambda name: saved.load_variables(work.folder, work.trainings[name], name))
            trained = [n for n, training in work.trainings.items() if training.trained]
            notes = functools.partial(saved.notes, work.compared, trained)
            about = work.folder, experiment.name, work.trainings, results, experiment.baseline
            final_report.write_report(*about, final, notes, callbacks.log)
            if experiment.report is not None:
                final_report.call_hook(experiment.report, work.config, results, work.folder, callbacks.log)

        sharding.on_primary(write)
    return results


def _exported(training: Training) -> Exported | Exception:
    """Return the exported program of a training, or the error of its export; all seeds share it."""
    try:
        return export_training(training)
    except Exception as error:  # a user's model may raise any
        return error


def build_caches(
    experiment: Experiment,
    config: Any = None,
    hyperparams: Mapping[str, float] | None = None,
    options: RunOptions = _DEFAULTS,
    callbacks: Callbacks = _PRINTING,
) -> Results:
    """Compute the caches of an experiment, running only the trainings that they depend on.

    Takes the same arguments and raises the same errors as `run`.

    Returns:
        Training -> one result per seed, of the trainings that ran.
    """
    with _opened(experiment, config, hyperparams, options, callbacks) as work:
        needed: set[str] = set()
        for training in work.trainings.values():
            sources = {m: s for m, s in training.init_from.items() if m in training.cache}
            needed |= {source_of(s)[0] for s in sources.values() if isinstance(s, str)}
        for name, training in reversed(list(work.trainings.items())):
            sources = training.init_from.values() if name in needed else ()
            needed |= {source_of(s)[0] for s in sources if isinstance(s, str)}
        results: Results = {}
        for name, training in work.trainings.items():
            program = compiled.compile_training(training)
            results[name] = []
            for seed in range(work.config.seeds):
                if name in needed:
                    results[name].append(_run_seed(work, name, program, seed, results))
                elif training.cache:
                    _with_records(work, training, name, seed, results)
    return {n: r for n, r in results.items() if r}


def _row(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of `results.json`: a result without what only later runs read."""
    row = {k: v for k, v in result.items() if k not in ("history", "identity", "earlier", "made_with")}
    return row | ({"changed_at": [e["until"] for e in result["earlier"]]} if result["earlier"] else {})


@dataclasses.dataclass(frozen=True)
class _Work:
    folder: pathlib.Path
    experiment: str
    config: Any
    trainings: Mapping[str, Training]
    overrides: Mapping[str, dict[str, float]]
    identities: Mapping[str, Identity]
    configuration: saved.Configuration
    options: RunOptions
    callbacks: Callbacks
    finished: list[dict[str, Any]]
    compared: dict[tuple[str, int], Identity] = dataclasses.field(default_factory=dict)


@contextlib.contextmanager
def _opened(experiment, config, hyperparams, options, callbacks) -> Iterator[_Work]:
    """Check an experiment, open its run folder, and compare its results with the experiment."""
    folder = options.folder(experiment.name)  # before code of the user's can change the working directory
    options = dataclasses.replace(options, cache=options.cache and pathlib.Path(options.cache).absolute())
    config = experiment.config if config is None else config
    valid = isinstance(config.seeds, int | np.integer) and not isinstance(config.seeds, bool)
    if not valid or not 1 <= config.seeds <= _MOST_SEEDS:
        raise UserError(
            f"seeds is {shown(repr(config.seeds))}; expected an integer of at least 1, and {_MOST_SEEDS:,} at most"
        )
    with blamed(experiment.config, config, hyperparams or {}):
        trainings = experiment.trainings(config)
        if options.online:
            trainings = {n: t.without_cache() for n, t in trainings.items()}
        overrides, initial = check_with_shapes(trainings, hyperparams or {})
    states = {}
    for name, training in trainings.items():
        states[name], frozen = training.abstract(initial_variables=initial[name])
        with _within(f"training {name!r}"):
            check_memory(states[name], frozen)
    final_report.check_report(trainings, experiment.baseline, experiment.report)
    identities = {n: identity(t, overrides[n], initial=initial[n]) for n, t in trainings.items()}
    sources = source_files(experiment.file)
    fields = json.loads(json.dumps(dataclasses.asdict(config), default=repr))
    fields.pop("seeds")
    values = {k: float(v) for k, v in (hyperparams or {}).items()}
    configuration = saved.Configuration(fields, values, files.digest(sources)[:16])
    _check_processes(configuration, identities, trainings, config.seeds)
    with contextlib.ExitStack() as stack:
        stack.enter_context(run_folder.opened(folder, options.fresh, callbacks.log))
        finished: list[dict[str, Any]] = []

        def inspect():
            record_sources(folder, sources, callbacks.log)
            about = folder, trainings, identities, config.seeds, configuration, options, callbacks.log
            finished.extend(_inspect(*about, states))
            files.recover_json(folder / "config.json", callbacks.log)
            saved.record(folder, experiment.name, configuration, options.command, finished)

        sharding.on_primary(inspect)
        events = stack.enter_context(tensorboard(folder / "events"))
        callbacks = dataclasses.replace(callbacks, loggers=(events, *callbacks.loggers))
        for name, training in trainings.items():  # before any training starts
            with _within(f"training {name!r}"):
                check_data(training, lambda line, name=name: callbacks.log(f"{name}: {line}"))
        about = experiment.name, config, trainings, overrides, identities, configuration
        yield _Work(folder, *about, options, callbacks, finished)


def _check_processes(configuration, identities, trainings, seeds) -> None:
    """Raise in every process if two were started with different code, data or options."""
    unknown: Any = dict.fromkeys(trainings), dict.fromkeys(trainings, "")
    pretrained = {n: saved.source_identities(t, *unknown) for n, t in trainings.items()}
    aspects: dict[str, Any] = {"config": [configuration.config, configuration.hyperparams, seeds]}
    aspects |= {a: {n: i[a] for n, i in identities.items()} for a in ("code", "settings", "data")}
    aspects |= {"sources": pretrained}
    for name, value in aspects.items():
        digests = sharding.process_allgather(int(files.digest(value)[:7], 16))
        if other := [str(i) for i, x in enumerate(digests) if x != digests[0]]:
            raise UserError(
                f"process {', '.join(other)} has other {name} than process 0: start all processes with the same files, "
                "data and options"
            )


def _inspect(folder, trainings, identities, seeds, configuration, options, log, states) -> list[dict[str, Any]]:
    """Verify the results in a run folder and compare them with the experiment; returns the finished ones."""
    found = {}
    for seed in range(seeds):
        for name in trainings:
            directory = saved.directory_of(folder, name, seed)
            result = saved.verify(directory, log)
            found[name, seed] = result, None if result else checkpoint.newest_meta(directory / "checkpoints")
    saved.compare(folder, identities, trainings, found, configuration, options.allowed, log)
    for (name, seed), (_, meta) in found.items():
        if meta is not None:
            with _within(f"training {name!r}, seed {seed}"):
                checkpoint.check_shapes(saved.directory_of(folder, name, seed) / "checkpoints", states[name])
    incomplete = any(result is None for result, _ in found.values())
    if incomplete and (folder / "results.json").exists():
        (folder / "results.json").rename(files.unused(folder / "results.json.earlier"))  # written again at the end
    for (name, seed), (result, _) in found.items():
        if result and saved.lengthened(result, identities[name], options.allowed):
            found[name, seed] = None, None
            directory = saved.directory_of(folder, name, seed)
            saved.put_back(directory, result["identity"]["settings"]["steps"])
            start = (
                "" if checkpoint.newest_meta(directory / "checkpoints") else ", from the first: it has no checkpoint"
            )
            log(f"{name}, seed {seed}: lengthened to {trainings[name].steps:,} steps{start}")
    if others := {p.name for p in folder.glob("trainings/*") if p.is_dir()} - set(trainings):
        log(f"{folder} also has {choices(others)}, which the experiment no longer has: left as they are")
    done = {p.parent.name for n in trainings for p in folder.glob(f"trainings/{n}/*/result.json")}
    if more := sorted(int(s) for s in done if s.isdigit() and int(s) >= seeds):
        log(f"{folder} also has seed {choices(more)}, which --seeds {seeds} leaves out of results.json and the table")
    return [result for result, _ in found.values() if result]


def _source_variables(work, source, seed, results):
    """Return the variables of a source: of an earlier training, or pretrained."""
    if isinstance(source, PretrainedVariables):
        return source.variables
    of, taken, inner = source_of(source)
    whole = saved.load_variables(work.folder, work.trainings[of], of, seed)[taken]
    return subtree(whole, inner)


def _with_records(work, training, name, seed, results):
    """Return the training data with cached outputs; a model with a complete cache is not loaded."""
    data, callbacks = training.data, work.callbacks

    def check_interrupt():
        if any(sharding.process_allgather(callbacks.should_stop())):
            raise loop.Interrupted("before the first step")

    for model in training.cache:
        source = training.init_from.get(model) or PretrainedVariables(training.own_variables(model, seed))
        if isinstance(source, PretrainedVariables):
            teacher = {"variables": source.fingerprint}
        else:
            of, taken, inner = source_of(source)
            teacher = {"model": taken, "inner": inner, "variables": results[of][seed]["variables"]}
        teacher["program"] = work.identities[name]["code"][f"cached model {model}"]
        place = f"{name}: cache of {model}"
        with _within(f"training {name!r}, seed {seed}, cache of {model!r}"), out_of_memory_reported("the teacher"):
            records, digest = teacher_outputs.recorded(
                training,
                model,
                work.options.cache or work.folder / "cache",
                teacher,
                functools.partial(_source_variables, work, source, seed, results),
                log=lambda line: callbacks.log(f"{name}, seed {seed}: {line}"),
                on_start=lambda batches, place=place: callbacks.on_start(place, seed, batches),
                on_metrics=lambda batch, place=place: callbacks.on_metrics(place, seed, {"step": batch}),
                check_interrupt=check_interrupt,
            )
        data = data.with_records(records, {model: digest})
    return data


def _run_seed(work, name, program, seed, results) -> dict[str, Any]:
    """Train one seed and return its result; a finished one is read from the run folder."""
    folder, options, callbacks = work.folder, work.options, work.callbacks
    training, directory = work.trainings[name], saved.directory_of(folder, name, seed)
    earlier = {n: rs[seed] for n, rs in results.items() if len(rs) > seed}
    now = work.identities[name] | {"sources": saved.source_identities(training, earlier, {})}
    work.compared[name, seed] = now
    if any(sharding.process_allgather((directory / "result.json").is_file())):
        result = files.read_json(directory / "result.json")
        if saved.accepted(folder).get(f"{name}/{seed}") != saved.digest_of(now):
            check_same(directory, result["identity"], now, options.allowed)  # its sources may have been trained again
        callbacks.on_start(name, seed, 0)
        callbacks.log(
            f"{name}, seed {seed}: {training.task.metric} {result[training.task.metric]:.3f}, finished earlier"
        )
        return result
    began = time.perf_counter()
    initial_variables = {
        m: _source_variables(work, source, seed, results)
        for m, source in training.init_from.items()
        if m not in training.cache
    }
    data = _with_records(work, training, name, seed, results)
    callbacks.on_start(name, seed, training.steps)
    retention = training.keep_last, training.keep_best, training.keep_every
    speeds: dict[str, float] = {}

    def on_metrics(step, row, speed):
        speeds.update(speed)
        row = row | {f"speed {k}": v for k, v in speed.items()}
        callbacks.on_metrics(name, seed, row)
        for log in callbacks.loggers if sharding.is_primary_process() else ():
            log(name, seed, row)

    with (
        _within(f"training {name!r}, seed {seed}"),
        contextlib.closing(checkpoint.Checkpoints(directory / "checkpoints", *retention)) as checkpoints,
    ):
        fitted = loop.fit(
            training,
            program,
            seed,
            checkpoints,
            data=data,
            initial_variables=initial_variables,
            hyperparams=work.overrides[name],
            on_metrics=on_metrics,
            profile=None if options.profile is None else (options.profile, folder / "profile" / name),
            log=lambda line: callbacks.log(f"{name}, seed {seed}: {line}"),
            should_stop=callbacks.should_stop,
            identity=now,
            allowed=options.allowed,
            made_with=dataclasses.asdict(work.configuration),
        )
    scores, path, hashes = fitted.scores, directory / "variables.safetensors", []
    sharding.on_primary(lambda: hashes.append(variables_file.write_variables(path, fitted.variables)))
    result = {
        "training": name,
        "seed": seed,
        **{k: float(v) if np.isfinite(v) else None for k, v in scores.items() if v.ndim == 0},
        "validation": fitted.best,
        "best_step": fitted.best_step,
        "steps": fitted.history[-1]["step"],
        "variables": hashes[0] if hashes else variables_file.write_variables(path, fitted.variables, write=False),
        "per_class": {k: _finite(v) for k, v in scores.items() if v.ndim == 1},
        "matrices": {k: [_finite(row) for row in v] for k, v in scores.items() if v.ndim == 2},
        "history": fitted.history,
        "identity": now,
        "earlier": list(fitted.earlier),
        "made_with": dataclasses.asdict(work.configuration),
    }
    seconds = round(time.perf_counter() - began, 2)

    def write():
        known = files.recover_json(folder / "timings.json", callbacks.log) or {}
        timing = {"seconds": seconds, **{k: round(v, 2) for k, v in speeds.items()}}
        files.write_json(folder / "timings.json", known | {f"{name}/{seed}": timing})
        files.write_json(directory / "result.json", result)  # last: this file marks the seed as finished
        work.finished.append(result)
        saved.record(folder, work.experiment, work.configuration, options.command, work.finished)

    sharding.on_primary(write)
    metric = training.task.metric
    callbacks.log(
        f"{name}, seed {seed}: {metric} {result[metric]:.3f} "
        f"(validation {fitted.best:.3f} at step {fitted.best_step}), {seconds} s"
    )
    return result


def _finite(values):
    return [x if np.isfinite(x) else None for x in values.tolist()]


@contextlib.contextmanager
def _within(place: str) -> Iterator[None]:
    """Name the training and the seed in errors."""
    try:
        yield
    except loop.Interrupted as stopped:
        raise loop.Interrupted(f"{place}: {stopped}") from None
    except UserError as error:
        raise error.within(place) from error.__cause__
