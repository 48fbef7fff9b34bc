"""Running an experiment: each part and seed is run, resumed, or taken where it is finished; all goes to one folder."""

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

from mmkd_jax import checkpoint, files, parallel, programs, run_folder, teacher, train
from mmkd_jax.errors import UserError
from mmkd_jax.evaluate import report
from mmkd_jax.evaluate.logs import Log, tensorboard
from mmkd_jax.experiment import Experiment, check, source_of
from mmkd_jax.given import Given
from mmkd_jax.part import Part
from mmkd_jax.state import part_of, variables

Results = dict[str, list[dict[str, Any]]]  # part -> a result for each seed


class Observer(NamedTuple):
    """Who watches a run: lines for a person, progress, and whether to stop."""

    say: Callable[[str], None] = print
    begin: Callable[[str, int, int], None] = lambda part, seed, steps: None
    note: Callable[[str, int, dict[str, float]], None] = lambda part, seed, row: None
    stop: Callable[[], bool] = lambda: False


def run(
    experiment: Experiment,
    config: Any,
    numbers: Mapping[str, float] | None = None,
    out: str | pathlib.Path | None = None,
    fresh: bool = False,
    observer: Observer = Observer(),  # noqa: B008  an immutable tuple of functions
    allow_changed_data: bool = False,
    cache: str | pathlib.Path | None = None,
    online: bool = False,
    only_cache: bool = False,
    profile: int | None = None,
    logs: tuple[Log, ...] = (),
    command: str = "",
) -> Results:
    """Run, resume, or take the finished result of each part and seed; write the run folder.

    Several processes (`jax.distributed`) train as one over all their devices; they share the folder, the first writes.

    Args:
        experiment: from `load`.
        config: the experiment's configuration.
        numbers: numbers of objectives that differ from the file's, see `check`.
        out: the run folder; default `runs/NAME`.
        fresh: start anew; the old folder is renamed, not deleted.
        observer: who watches.
        allow_changed_data: go on with other data, batch size, transforms or configuration than the folder's; what
            changed is said and recorded, and finished parts stay as they are.
        cache: where the outputs of cached models are kept; default `cache` in the run folder. Runs may share it.
        online: run the models that parts cache in every step instead.
        only_cache: compute the caches, and train only the parts that are needed for them.
        profile: trace so many steps of each part, once compiled, into `profile/` of the run folder.
        command: that made this call, for `mmkd runs` to show how to go on.
        logs: where the learning curve and the speed go besides TensorBoard events in the folder, as `evaluate.logs`.

    Returns:
        Part -> a result for each seed; `results.json` holds the same without the learning curves.

    Raises:
        UserError: whatever the user can mend.
        train.Interrupted: stopped as asked, all saved.
    """
    parts = experiment.parts(config)
    if online:
        parts = {n: dataclasses.replace(p, cache={}) for n, p in parts.items()}
    own = check(parts, numbers or {})
    folder = pathlib.Path(out or pathlib.Path("runs") / experiment.name)
    configuration = {
        "experiment": experiment.name,
        "code": experiment.code,
        "config": dataclasses.asdict(config),
        "numbers": dict(numbers or {}),
        **({"online": True} if online else {}),
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(run_folder.opened(folder, configuration, fresh, observer.say, allow_changed_data))
        if parallel.leads() and command:
            files.write(folder / "command.txt", command + "\n")
        events = stack.enter_context(tensorboard(folder / "events"))
        caches = pathlib.Path(cache or folder / "cache")
        work = _Work(folder, parts, observer, allow_changed_data, caches, profile, (events, *logs))
        for name, part in parts.items():  # before the first part trains
            try:
                part.check_data()
            except UserError as error:
                raise UserError(f"part {name!r}: {error}") from None
        if only_cache:
            return _build_caches(work, config, own)
        results: Results = {}
        for name, part in parts.items():
            program = programs.compile_part(part)
            results[name] = []
            for seed in range(config.seeds):
                results[name].append(_one(work, name, program, seed, own[name], results))
                if any(parallel.of_all(observer.stop())):
                    raise train.Interrupted(f"{name}, seed {seed} is done")
        if parallel.leads():
            rows = [{k: v for k, v in r.items() if k not in ("history", "data")} for rs in results.values() for r in rs]
            files.write(folder / "results.json", json.dumps({"rows": rows}, indent=1) + "\n")
            _report(folder, experiment, parts, results)
            if experiment.report is not None:
                experiment.report(config, results, folder)
        parallel.of_all(0)  # nobody leaves before all is written
    return results


class _Work(NamedTuple):
    folder: pathlib.Path
    parts: Mapping[str, Part]
    observer: Observer
    allow_changed_data: bool
    caches: pathlib.Path
    profile: int | None
    logs: tuple[Log, ...]


def _build_caches(work: _Work, config: Any, own) -> Results:
    """Train the parts whose models others cache, and what these take; compute the caches of all."""
    needed: set[str] = set()
    for part in reversed(list(work.parts.values())):
        needed |= {source_of(s)[0] for m, s in part.take.items() if m in part.cache and isinstance(s, str)}
    for name, part in reversed(list(work.parts.items())):
        mine = part.take.values() if name in needed else ()
        needed |= {source_of(s)[0] for s in mine if isinstance(s, str)}
    results: Results = {}
    for name, part in work.parts.items():
        program = programs.compile_part(part)
        results[name] = []
        for seed in range(config.seeds):
            if name in needed:
                results[name].append(_one(work, name, program, seed, own[name], results))
            elif part.cache:
                _with_records(work, part, name, seed, results)
    return {n: r for n, r in results.items() if r}


def _taken(work, source, seed, results):
    """The variables that a model takes from another part, or from outside."""
    if isinstance(source, Given):
        return source.variables
    of, taken, inner = source_of(source)
    whole = finished(work.folder, work.parts[of], of, seed, results[of][seed]["variables"])[taken]
    return part_of(whole, inner)


def _with_records(work, part, name, seed, results):
    """The training data with what the cached models say of them; a model whose records are there is not read."""
    data, observer = part.data, work.observer

    def heed():
        if any(parallel.of_all(observer.stop())):
            raise train.Interrupted(f"before the first step of {name}, seed {seed}")

    for model in part.cache:
        source = part.take[model]
        if isinstance(source, Given):  # the same for all seeds
            known = f"{source.fingerprint}-{part.program(model)}"
            identity = {"part": "given", "model": model, "seed": known}
        else:
            of, taken, inner = source_of(source)
            identity = {"part": of, "model": taken, "inner": inner, "seed": seed}
            identity |= {"sha256": results[of][seed]["variables"]}
        records, digest = teacher.recorded(
            part,
            model,
            work.caches,
            identity,
            partial(_taken, work, source, seed, results),
            say=lambda line: observer.say(f"{name}, seed {seed}: {line}"),
            begin=lambda batches, model=model: observer.begin(f"{name}: cache of {model}", seed, batches),
            note=lambda batch, model=model: observer.note(f"{name}: cache of {model}", seed, {"step": batch}),
            heed=heed,
        )
        data = data.with_records(records, {model: digest})
    return data


def _one(work, name, program, seed, numbers, results) -> dict[str, Any]:
    """One part, one seed: its result, taken where it is there."""
    folder, parts, observer = work.folder, work.parts, work.observer
    part, here = parts[name], folder / "parts" / name / str(seed)
    if any(parallel.of_all((here / "result.json").is_file())):
        result = json.loads((here / "result.json").read_text())
        _same_start(part, here, result, work.allow_changed_data)
        observer.begin(name, seed, 0)
        observer.say(f"{name}, seed {seed}: {part.task.metric} {result[part.task.metric]:.3f}, finished earlier")
        return result
    began = time.perf_counter()
    given = {m: _taken(work, source, seed, results) for m, source in part.take.items() if m not in part.cache}
    data = _with_records(work, part, name, seed, results)
    observer.begin(name, seed, part.steps)
    kept = part.keep_last, part.keep_best, part.keep_every
    speeds: dict[str, float] = {}

    def note(step, row, speed):
        speeds.update(speed)
        row = row | {f"speed {k}": v for k, v in speed.items()}
        observer.note(name, seed, row)
        for log in work.logs if parallel.leads() else ():
            log(name, seed, row)

    with contextlib.closing(checkpoint.Checkpoints(here / "checkpoints", *kept)) as checkpoints:
        fitted = train.fit(
            part,
            program,
            seed,
            checkpoints,
            data=data,
            given=given,
            numbers=numbers,
            note=note,
            profile=None if work.profile is None else (work.profile, folder / "profile" / name),
            say=lambda line: observer.say(f"{name}, seed {seed}: {line}"),
            stop=observer.stop,
            allow_changed_data=work.allow_changed_data,
        )
    scores = fitted.scores
    result = {
        "arm": name,
        "seed": seed,
        **{k: float(v) for k, v in scores.items() if v.ndim == 0},
        "validation": fitted.best,
        "best_step": fitted.best_step,
        "steps": fitted.history[-1]["step"],
        "variables": checkpoint.write_variables(here / "variables.safetensors", fitted.variables, parallel.leads()),
        "per_class": {k: v.tolist() for k, v in scores.items() if v.ndim == 1},
        "history": fitted.history,
        "data": dict(data.fingerprint) | part.identity,
    }
    seconds = round(time.perf_counter() - began, 2)
    if parallel.leads():
        timings = folder / "timings.json"
        known = json.loads(timings.read_text()) if timings.is_file() else {}
        own = {"seconds": seconds, **{k: round(v, 2) for k, v in speeds.items()}}
        files.write(timings, json.dumps(known | {f"{name}/{seed}": own}, indent=1) + "\n")
        files.write(here / "result.json", json.dumps(result, indent=1) + "\n")  # last: it says that it is finished
    parallel.of_all(0)  # who reads it waits until it is there
    metric = part.task.metric
    observer.say(
        f"{name}, seed {seed}: {metric} {result[metric]:.3f} "
        f"(validation {fitted.best:.3f} at step {fitted.best_step}), {seconds} s"
    )
    return result


def _same_start(part, here, result, allowed):
    """A result that began with other variables from outside is another experiment's."""
    was, now = ({k: v for k, v in x.items() if k.startswith("take ")} for x in (result["data"], part.identity))
    if was != now and not allowed:
        changed = ", ".join(sorted(k for k in was | now if was.get(k) != now.get(k)))
        raise UserError(
            f"{here} was trained with other weights ({changed}): start anew (--fresh), or keep what is finished "
            "(--allow-changed-data)"
        )


def _report(folder, experiment, parts, results):
    """Table, figures, and a picture of some validation examples with what each part says of them."""
    first = next(iter(parts.values()))
    task, classes = first.task, first.data.dataset.about.get("classes")
    report.write(folder, results, task.metric, experiment.baseline, experiment.name, classes, task.share)
    batch = {k: v[:8] for k, v in next(iter(first.validation.once())).items()}
    inputs = [k for k in ("image", "audio") if k in batch]
    if not inputs:
        return
    said = {}
    for name, part in parts.items():
        own = finished(folder, part, name, 0, results[name][0]["variables"])[part.measured]
        predict = jax.jit(lambda variables, batch, part=part: part.task.predict(part.run(part.measured)(variables, batch)))
        said[name] = np.asarray(predict(own, batch))
    rows = []
    for i in range(len(batch["example_id"])):
        lines = [f"label {batch['label'][i]}"] if "label" in batch else []
        lines += [f"{name} {p[i]}" for name, p in said.items()]
        rows.append({k: batch[k][i] for k in inputs} | {"caption": "\n".join(lines)})
    report.examples(rows, folder / "figures" / "examples.png")


def finished(folder: pathlib.Path, part: Part, name: str, seed: int, sha256: str) -> dict[str, Any]:
    """The variables with which a part ended: model -> variables."""
    state, _ = part.abstract()
    path = folder / "parts" / name / str(seed) / "variables.safetensors"
    return checkpoint.read_variables(path, variables(state, {}), sha256)
