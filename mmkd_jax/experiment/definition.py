"""Experiment files: a configuration and trainings in Python, checked by abstract evaluation."""

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax

from mmkd_jax import renamed
from mmkd_jax.core.hyperparams import hyperparams_of
from mmkd_jax.core.state import subtree, variables
from mmkd_jax.errors import MissingOutput, UserError, choices
from mmkd_jax.experiment import description, final_report
from mmkd_jax.experiment.python_file import module, one_line_errors
from mmkd_jax.training.banks import check_banks
from mmkd_jax.training.init_from import PretrainedVariables
from mmkd_jax.training.read_columns import check_evaluation, label_fault
from mmkd_jax.training.training import Training
from mmkd_jax.training.untrained import check_trained


class Experiment(NamedTuple):
    """Contents of an experiment file, or of a notebook.

    Attributes:
        name: file name without .py.
        config: instance of a frozen dataclass with the default values; it has a field `seeds`.
        trainings: `(config) -> {name: Training}`; computes nothing.
        baseline: name of the training that the table compares the others with, or training -> its baseline; None if
            the file defines none.
        report: `(config, results, folder)`, called at the end; None if the file defines none.
        file: path of the file; empty for an experiment that is defined in a notebook.
    """

    name: str
    config: Any
    trainings: Callable[[Any], dict[str, Training]]
    baseline: str | Mapping[str, str] | None = None
    report: Callable | None = None
    file: str = ""


def load(path: str | pathlib.Path) -> Experiment:
    """Load an experiment file.

    Raises:
        UserError: the file does not exist, fails to import, or lacks `config` or `trainings`.
    """
    path = pathlib.Path(path)
    place = str(path.absolute())  # the file may change the working directory
    file = module(path, "experiment", ("config", "trainings"), ("baseline", "report"))
    if not dataclasses.is_dataclass(file.config) or not hasattr(file.config, "seeds"):
        raise UserError(f"experiment {path}: config must be an instance of a frozen dataclass with a field seeds")
    baseline, report = getattr(file, "baseline", None), getattr(file, "report", None)
    trainings = one_line_errors(path, "experiment")(file.trainings)
    return Experiment(path.stem, file.config, trainings, baseline, report, place)


def explain(experiment: Experiment, config: Any = None, hyperparams: Mapping[str, float] | None = None) -> str:
    """Summarize an experiment by abstract evaluation, without training or reading data, as `mmkd explain` prints it.

    Args:
        experiment: the experiment.
        config: configuration of its trainings; None is the experiment's own.
        hyperparams: dotted name -> value, as in `run`.

    Raises:
        UserError: the experiment is invalid.
    """
    config = experiment.config if config is None else config
    with blamed(experiment.config, config, hyperparams or {}):
        trainings = experiment.trainings(config)
        overrides = check(trainings, hyperparams or {})
    final_report.check_report(trainings, experiment.baseline, experiment.report)
    return description.text(trainings, overrides)


@contextlib.contextmanager
def blamed(default: Any, config: Any, hyperparams: Mapping[str, float]) -> Iterator[None]:
    """Convert errors of models and optimizers to a one-line `UserError` if options differ from the file's.

    Raises:
        UserError: an error other than UserError, with the options; or an option that is NaN.
    """
    before, after = (dict(_flat(dataclasses.asdict(c))) for c in (default, config))
    options = {k.replace("_", "-"): v for k, v in after.items() if k != "seeds" and before.get(k) != v}
    options |= hyperparams
    for name, value in options.items():
        if isinstance(value, float) and math.isnan(value):
            raise UserError(f"--{name} is {value}; expected a number")
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not options:
            raise
        given = " ".join(f"--{k} {v}" for k, v in options.items())
        reason = (str(error).strip().splitlines() or [""])[0]
        raise UserError(
            f"the experiment cannot be built with {given}: {type(error).__name__}: {reason} (--debug shows where)"
        ) from error


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def check(trainings: Mapping[str, Training], hyperparams: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Validate trainings, and return the hyperparameters of each that differ from the file's."""
    return check_with_shapes(trainings, hyperparams)[0]


def check_with_shapes(
    trainings: Mapping[str, Training], hyperparams: Mapping[str, float]
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, Any]]]:
    """Validate trainings by abstract evaluation: paths, masks, names, references and hyperparameters.

    Args:
        trainings: name -> Training, in the order of the experiment.
        hyperparams: `objective.TERM.NAME` (all trainings that have it) or `TRAINING.objective.TERM.NAME` -> value;
            likewise `gradients.NAME` for those of gradient aggregators.

    Returns:
        Name of each training -> its hyperparameters that differ from the file's; and name -> shapes of the initial
        variables that it takes from elsewhere.

    Raises:
        UserError: the error that training would raise, prefixed with the name of the training.
    """
    known, done, taken_by = {}, {}, {}
    for name, training in trainings.items():
        try:
            initial = {}
            for model, source in training.init_from.items():
                if isinstance(source, PretrainedVariables):
                    if model in training.models and model not in training.layers:
                        _same_variables(training, model, source.variables)
                    initial |= {} if model in training.cache else {model: source.variables}
                    continue
                of, taken, inner = source_of(source)
                if of not in done or taken not in done[of]:
                    have = [f"{n}.{m}" for n in done for m in done[n]]
                    raise UserError(
                        f"init_from[{model!r}] = {source!r} is not a model of an earlier training: {choices(have)}"
                    )
                if model not in training.cache:
                    initial[model] = subtree(done[of][taken], inner)
            partly = {m for k in training.init_from if (m := k.partition(".")[0]) != k}
            if bare := set(training.cache) & partly:
                raise UserError(
                    f"cached model {choices(bare)} needs init_from for all its variables: "
                    'init_from="TRAINING.MODEL" or PretrainedVariables(…)'
                )
            check_trained(training, initial)
            for rows, loader in (("validation", training.validation), ("test", training.test)):
                if fault := label_fault(training.task, loader):
                    raise fault.within(rows)
            try:
                state, frozen = training.abstract(initial_variables=initial)
                training.check_step(state, frozen)
            except UserError as error:  # a loss knows no columns
                raise label_fault(training.task, training.data) or error from error.__cause__
            check_banks(training, read=False)
            check_evaluation(training)
        except UserError as error:
            raise error.within(f"training {name!r}", _beside_the_cache(training, error)) from error.__cause__
        known[name] = {f"objective.{k}": k for k in hyperparams_of(state.objective_state)}
        known[name] |= {k: k for k in hyperparams_of({"gradients": state.aggregator_state})}
        done[name] = jax.eval_shape(training.result, variables(state, {}), frozen)
        taken_by[name] = initial
    overrides: dict[str, dict[str, float]] = {name: {} for name in trainings}
    for flag, value in hyperparams.items():
        hit = {n: known[n].get(flag) or known[n].get(flag.removeprefix(f"{n}.")) for n in trainings}
        if not any(hit.values()):
            have = [f"{n}.{k}" for n in trainings for k in known[n]]
            raise UserError(
                f"no hyperparameter --{flag} (schedules are changed in the file); there are: {choices(have)}"
                f"{renamed.hint(f'--{flag}')}"
            )
        for name, number in hit.items():
            overrides[name] |= {number: value} if number else {}
    for name in filter(overrides.get, trainings):
        try:
            trainings[name].abstract(overrides[name], taken_by[name])
        except UserError as error:
            raise error.within(f"training {name!r}") from error.__cause__
    for name, training in trainings.items():
        for model, spec in training.cache.items():
            if spec.top_k is not None:
                _same_temperature(name, training, overrides[name], model, spec.temperature)
    return overrides, taken_by


def _same_variables(training: Training, model: str, initial: Any) -> None:
    """Raise early if pretrained variables do not match the model; a cached model would fail only when it first runs."""
    expected, actual = (
        {jax.tree_util.keystr(p, simple=True, separator="."): list(x.shape) for p, x in jax.tree.leaves_with_path(tree)}
        for tree in (training.merged.shapes(model)[0], initial)
    )
    if wrong := sorted(k for k in expected | actual if expected.get(k) != actual.get(k)):
        first = f"{wrong[0]} has {actual.get(wrong[0], 'nothing')}, expected {expected.get(wrong[0], 'nothing')}"
        rest = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise UserError(f"init_from[{model!r}] has the variables of another model: {first}{rest}")


def _beside_the_cache(training: Training, error: UserError) -> str:
    """Return a hint if an output is missing only because the cache does not store it."""
    if not isinstance(error, MissingOutput) or error.model not in training.cache:
        return ""
    if error.output not in training.outputs(error.model):
        return ""
    stored = choices(training.cache[error.model].outputs)
    return f"; {error.model!r} is cached: add the output to cache=, which stores {stored}"


def _same_temperature(name, training, hyperparams, model, temperature):
    """Raise if a term's temperature differs from that of the cached top-k logits, which are valid for that one only."""
    for term, (reads, own) in description.describe(training, hyperparams).terms.items():
        if f"{model}.logits" in reads and (found := own.get("temperature", 1.0)) != temperature:
            raise UserError(
                f"training {name!r}: term {term!r} has temperature {found:g}, but the cache stores the largest logits "
                f"of {model!r} for {temperature:g}: use CacheSpec(…, temperature={found:g})"
            )


def source_of(source: str) -> tuple[str, str, str]:
    """Split "TRAINING.MODEL.PATH" into training, model, and the dotted path within its variables."""
    of, _, taken = source.partition(".")
    model, _, inner = taken.partition(".")
    return of, model, inner
