"""Experiments: a Python file of parts, run for each seed into a folder; resumed, or taken where finished."""

import ast
import contextlib
import dataclasses
import difflib
import hashlib
import importlib.machinery
import inspect
import json
import pathlib
import re
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from mmkd_jax import checkpoint, explain, files, hyperparameters, parallel, run_folder, teacher, train
from mmkd_jax.data.memory import Memory
from mmkd_jax.errors import UserError, choices
from mmkd_jax.evaluate import report
from mmkd_jax.part import Part
from mmkd_jax.state import part_of, variables
from mmkd_jax.views import Context

Results = dict[str, list[dict[str, Any]]]  # part -> a result for each seed


class Experiment(NamedTuple):
    """What an experiment file defines.

    Attributes:
        name: the file's name without .py.
        config: the frozen dataclass with its default values; it has a field `seeds`.
        parts: `(config) -> {name: Part}`, without computing anything.
        baseline: name of the part that the table compares the others with; None where the file names none.
        report: `(config, results, folder)`, called at the end; None where the file has none.
        code: hash of the file's code (comments and layout left out).
    """

    name: str
    config: Any
    parts: Callable[[Any], dict[str, Part]]
    baseline: str | None
    report: Callable | None
    code: str


class Observer(NamedTuple):
    """Who watches a run: lines for a person, progress, and whether to stop."""

    say: Callable[[str], None] = print
    begin: Callable[[str, int, int], None] = lambda part, seed, steps: None
    note: Callable[[str, int, dict[str, float]], None] = lambda part, seed, row: None
    stop: Callable[[], bool] = lambda: False


def load(path: str | pathlib.Path) -> Experiment:
    """Read an experiment file.

    Raises:
        UserError: there is no such file, or it lacks `config` or `parts`.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        near = path.parent if path.parent.is_dir() else pathlib.Path(".")
        raise UserError(f"no experiment {path}; {near}/ has: {choices(p.name for p in near.glob('*.py'))}")
    name = f"experiment_{path.stem}"
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses look their module up
    with _told(path):
        importlib.machinery.SourceFileLoader(name, str(path)).exec_module(module)
    if missing := [n for n in ("config", "parts") if not hasattr(module, n)]:
        raise UserError(f"experiment {path} does not define {choices(missing)}")
    if not dataclasses.is_dataclass(module.config) or not hasattr(module.config, "seeds"):
        raise UserError(f"experiment {path}: config must be an instance of a frozen dataclass with a field seeds")
    code = hashlib.sha256(ast.dump(ast.parse(path.read_text())).encode()).hexdigest()
    baseline, own_report = getattr(module, "baseline", None), getattr(module, "report", None)
    parts = _told(path)(module.parts)
    return Experiment(path.stem, module.config, parts, baseline, own_report, code)


@contextlib.contextmanager
def _told(path: pathlib.Path) -> Iterator[None]:
    """A slip in an experiment's file, or in a call that it makes, is told in one line; our bugs keep their trace."""
    try:
        yield
    except SyntaxError as error:
        if error.filename != str(path):
            raise
        raise UserError(f"experiment {path}:{error.lineno}: {error.msg}") from error
    except (AttributeError, ImportError, NameError, TypeError) as error:
        frames = traceback.extract_tb(error.__traceback__)
        mine = [i for i, frame in enumerate(frames) if frame.filename == str(path)]
        if not mine or len(frames) - 1 - mine[-1] > 1:
            raise
        raise UserError(f"experiment {path}:{frames[mine[-1]].lineno}: {error}{_close(error)}") from error


def _close(error: Exception) -> str:
    """Names close to one that a module of ours has not."""
    word = re.search(r"(?:attribute|import name) '(\w+)'", str(error))
    of = error.name if isinstance(error, ImportError) else getattr(getattr(error, "obj", None), "__name__", "")
    if word is None or of not in {f"mmkd_jax.{n}" for n in ("losses", "methods", "recipes", "schemes")}:
        return ""
    names = [n for n, f in vars(sys.modules[of]).items() if inspect.isfunction(f)]
    near = difflib.get_close_matches(word[1], names, 4, 0.5)
    return f"; close to it: {', '.join(near)}" if near else f"; it has: {choices(names)}"


def check(parts: Mapping[str, Part], numbers: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Refuse, from shapes alone, whatever would fail later: paths, masks, names, references, numbers.

    Args:
        parts: of the experiment.
        numbers: `objective.TERM.NUMBER` (all parts that have it) or `PART.objective.TERM.NUMBER` -> value; in the same
            way `scheme.NUMBER` of gradient schemes.

    Returns:
        part -> its own numbers.
    """
    known, done, taken_by = {}, {}, {}
    for name, part in parts.items():
        try:
            given = {}
            for model, source in part.take.items():
                of, taken, inner = _source(source)
                if of not in done or taken not in done[of]:
                    have = [f"{n}.{m}" for n in done for m in done[n]]
                    raise UserError(f"take[{model!r}] = {source!r} is no model of an earlier part: {choices(have)}")
                if model not in part.cache:
                    given[model] = part_of(done[of][taken], inner)
            if bare := set(part.cache) - set(part.take):
                raise UserError(f"cache names {choices(bare)}, which takes no variables: say whose with take=")
            state, frozen = part.abstract(given=given)
            part.check_step(state, frozen)
            part.check_banks(read=False)
        except UserError as error:
            hint = _beside_the_cache(part, str(error))
            raise UserError(f"part {name!r}: {error}{hint}") from error.__cause__
        known[name] = {f"objective.{k}": k for k in hyperparameters.numbers(state.memory)}
        known[name] |= {k: k for k in hyperparameters.numbers({"scheme": state.scheme})}
        done[name], taken_by[name] = variables(state, {}), given
    own: dict[str, dict[str, float]] = {name: {} for name in parts}
    for flag, value in numbers.items():
        hit = {n: known[n].get(flag) or known[n].get(flag.removeprefix(f"{n}.")) for n in parts}
        if not any(hit.values()):
            have = [f"{n}.{k}" for n in parts for k in known[n]]
            raise UserError(f"no number --{flag} (schedules are changed in the file); there are: {choices(have)}")
        for name, number in hit.items():
            own[name] |= {number: value} if number else {}
    for name in filter(own.get, parts):
        try:
            parts[name].abstract(own[name], taken_by[name])
        except UserError as error:
            raise UserError(f"part {name!r}: {error}") from error.__cause__
    for name, part in parts.items():
        for model, kept in part.kept.items():
            if kept.top_k is not None:
                _same_temperature(name, part, own[name], model, kept.temperature)
    return own


def _beside_the_cache(part: Part, error: str) -> str:
    """A path that is missing only because the cache does not keep it."""
    found = re.search(r"path '([^'.]+)\.([^']+)': '\1' has no", error)
    if found is None or found[1] not in part.cache or found[2] not in part.outputs(found[1]):
        return ""
    return f"; {found[1]!r} is cached: add the output to cache=, which keeps {choices(part.kept[found[1]].outputs)}"


def _same_temperature(name, part, numbers, model, temperature):
    """A record of the largest logits serves one temperature; at another it is wrong, and nothing else would notice."""
    for term, (reads, own) in explain.describe(part, numbers).terms.items():
        if f"{model}.logits" in reads and (found := own.get("temperature", 1.0)) != temperature:
            raise UserError(
                f"part {name!r}: term {term!r} has temperature {found:g}, but the cache keeps the largest logits of "
                f"{model!r} for {temperature:g}: give Kept(…, temperature={found:g})"
            )


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
    work = _Work(folder, parts, observer, allow_changed_data, pathlib.Path(cache or folder / "cache"))
    with run_folder.opened(folder, configuration, fresh, observer.say, allow_changed_data):
        _look_at_data(parts)
        if only_cache:
            return _build_caches(work, config, own)
        results: Results = {}
        for name, part in parts.items():
            program = train.compile_part(part)
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


def _build_caches(work: _Work, config: Any, own) -> Results:
    """Train the parts whose models others cache, and what these take; compute the caches of all."""
    needed: set[str] = set()
    for part in reversed(list(work.parts.values())):
        needed |= {_source(part.take[m])[0] for m in part.cache}
    for name, part in reversed(list(work.parts.items())):
        needed |= {_source(s)[0] for s in part.take.values()} if name in needed else set()
    results: Results = {}
    for name, part in work.parts.items():
        program = train.compile_part(part)
        results[name] = []
        for seed in range(config.seeds):
            if name in needed:
                results[name].append(_one(work, name, program, seed, own[name], results))
            elif part.cache:
                _with_records(work, part, name, seed, results)
    return {n: r for n, r in results.items() if r}


def _look_at_data(parts: Mapping[str, Part]) -> None:
    """Refuse labels that no class has, and banks that do not hold all examples, before the first part trains."""
    for name, part in parts.items():
        try:
            for reader in (part.data, part.validation, part.test):
                if isinstance(reader, Memory):  # a reader that streams is checked batch by batch
                    part.task.check(reader.dataset.columns)
            part.check_banks()
        except UserError as error:
            raise UserError(f"part {name!r}: {error}") from None


def _source(source: str) -> tuple[str, str, str]:
    """Part, model, and the dotted path within its variables."""
    of, _, taken = source.partition(".")
    model, _, inner = taken.partition(".")
    return of, model, inner


def _taken(work, source, seed, results):
    """The variables that a model takes from another part."""
    of, taken, inner = _source(source)
    whole = finished(work.folder, work.parts[of], of, seed, results[of][seed]["variables"])[taken]
    return part_of(whole, inner)


def _with_records(work, part, name, seed, results):
    """The training data with what the cached models say of them; a model whose records are there is not read."""
    data, observer = part.data, work.observer

    def heed():
        if any(parallel.of_all(observer.stop())):
            raise train.Interrupted(f"before the first step of {name}, seed {seed}")

    for model in part.cache:
        of, taken, inner = _source(part.take[model])
        identity = {"part": of, "model": taken, "inner": inner, "seed": seed, "sha256": results[of][seed]["variables"]}
        records, digest = teacher.recorded(
            part,
            model,
            work.caches,
            identity,
            partial(_taken, work, part.take[model], seed, results),
            say=lambda line: observer.say(f"{name}, seed {seed}: {line}"),
            begin=lambda batches, model=model: observer.begin(f"{name}: cache of {model}", seed, batches),
            note=lambda batch, model=model: observer.note(f"{name}: cache of {model}", seed, {"step": batch}),
            heed=heed,
        )
        data = data.with_records(records, {model: digest})
    return data


def _one(work, name, program, seed, numbers, results) -> dict[str, Any]:
    """One part, one seed: its result, taken where it is there."""
    folder, parts, observer, allow_changed_data, _ = work
    part, here = parts[name], folder / "parts" / name / str(seed)
    if any(parallel.of_all((here / "result.json").is_file())):
        result = json.loads((here / "result.json").read_text())
        observer.begin(name, seed, 0)
        observer.say(f"{name}, seed {seed}: {part.task.metric} {result[part.task.metric]:.3f}, finished earlier")
        return result
    began = time.perf_counter()
    given = {m: _taken(work, source, seed, results) for m, source in part.take.items() if m not in part.cache}
    data = _with_records(work, part, name, seed, results)
    observer.begin(name, seed, part.steps)
    kept = part.keep_last, part.keep_best, part.keep_every
    with contextlib.closing(checkpoint.Checkpoints(here / "checkpoints", *kept)) as checkpoints:
        fitted = train.fit(
            part,
            program,
            seed,
            checkpoints,
            data=data,
            given=given,
            numbers=numbers,
            note=lambda step, row: observer.note(name, seed, row),
            say=lambda line: observer.say(f"{name}, seed {seed}: {line}"),
            stop=observer.stop,
            allow_changed_data=allow_changed_data,
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
        "data": dict(data.fingerprint),
    }
    seconds = round(time.perf_counter() - began, 2)
    if parallel.leads():
        timings = folder / "timings.json"
        known = json.loads(timings.read_text()) if timings.is_file() else {}
        files.write(timings, json.dumps(known | {f"{name}/{seed}": seconds}, indent=1) + "\n")
        report.events(folder / "events" / name / str(seed), fitted.history)
        files.write(here / "result.json", json.dumps(result, indent=1) + "\n")  # last: it says that it is finished
    parallel.of_all(0)  # who reads it waits until it is there
    metric = part.task.metric
    observer.say(
        f"{name}, seed {seed}: {metric} {result[metric]:.3f} "
        f"(validation {fitted.best:.3f} at step {fitted.best_step}), {seconds} s"
    )
    return result


def _report(folder, experiment, parts, results):
    """Table, figures, and a picture of some validation examples with what each part says of them."""
    first = next(iter(parts.values()))
    classes = first.data.dataset.about.get("classes")
    report.write(folder, results, first.task.metric, experiment.baseline, experiment.name, classes)
    batch = {k: jax.numpy.asarray(v[:8]) for k, v in next(iter(first.validation.once())).items()}
    inputs = [k for k in ("image", "audio") if k in batch]
    if not inputs:
        return
    said = {}
    for name, part in parts.items():
        own = finished(folder, part, name, 0, results[name][0]["variables"])[part.measured]
        outputs, _ = part.models[part.measured].apply(own, batch, Context(0, jax.random.key(0), train=False), {})
        said[name] = np.asarray(part.task.predict(outputs))
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
