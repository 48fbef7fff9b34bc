"""Summarize an experiment by abstract evaluation, without training or reading data."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax.core.hyperparams import hyperparams_of
from mmkd_jax.core.model import StepContext
from mmkd_jax.core.objective import Term
from mmkd_jax.core.outputs import forward
from mmkd_jax.core.state import augmented_spec, init_state, variables
from mmkd_jax.core.tuning import adapted, whole
from mmkd_jax.training import class_names
from mmkd_jax.training.memory import readable
from mmkd_jax.training.operations import flops
from mmkd_jax.training.read_columns import lacking, without_inputs
from mmkd_jax.training.roles import MovingAverage
from mmkd_jax.training.training import Training
from mmkd_jax.training.untrained import random_variables


@dataclasses.dataclass(frozen=True)
class Description:
    """Summary of a training.

    Attributes:
        models: name -> (role, number of parameters, outputs).
        terms: name -> (paths that the term reads, hyperparameters).
        hyperparams: dotted name -> value, of hyperparameters of a method rather than of one of its terms.
        passes: name -> number of extra forward passes in the objective's program; a loop body counts once.
        extra: number of parameters of connectors and methods.
        objective_state: number of values in the objective state.
        gradients: name and hyperparameters of the gradient aggregator; None without one.
        flops: operations of a step over the whole batch.
        tuned: name of a partly trained model -> its parameters that are trained, with the rank of low-rank changes.
    """

    models: dict[str, tuple[str, int, dict[str, jax.ShapeDtypeStruct]]]
    terms: dict[str, tuple[list[str], dict[str, float]]]
    hyperparams: dict[str, float]
    passes: dict[str, int]
    extra: int
    objective_state: int
    gradients: tuple[str, dict[str, float]] | None = None
    flops: int = 0
    tuned: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)


def describe(training: Training, hyperparams: Mapping[str, float] | None = None) -> Description:
    """Summarize a training by abstract evaluation.

    Args:
        training: the training to describe.
        hyperparams: hyperparameters of the objective that override the file's.
    """
    seen: dict[str, Any] = {"passes": dict.fromkeys(training.models, 0)}
    distillation = training.distillation
    spec = augmented_spec(training.augment, training.spec)

    def trace(key):
        state, frozen = init_state(distillation, training.spec, key)
        batch = {k: jnp.zeros(s.shape, s.dtype) for k, s in spec.items()}
        outputs, _ = forward(
            distillation.models, variables(state, frozen), batch, StepContext(state.step, key), distillation.trained
        )

        def counted(name, run):
            def call(*arguments, **options):
                seen["passes"][name] += 1
                return run(*arguments, **options)

            return call

        watched = dataclasses.replace(outputs, run={n: counted(n, r) for n, r in outputs.run.items()})
        _, objective_state = training.objective.init(outputs)
        # the file's hyperparameters are constants, so they are concrete even under tracing
        seen["hyperparams"] = {
            k: float(v) for k, v in hyperparams_of(objective_state).items() if isinstance(v, np.generic)
        }
        terms, _ = training.objective.apply(state.params["objective"], state.objective_state, watched)
        values = hyperparams_of({"gradients": state.aggregator_state})
        seen["gradients"] = {k: float(v) for k, v in values.items() if isinstance(v, np.generic)}
        seen["terms"] = [
            jax.tree_util.keystr(p, simple=True, separator=".")
            for p, _ in jax.tree.leaves_with_path(terms, is_leaf=lambda t: isinstance(t, Term))
        ]
        return state

    state = jax.eval_shape(trace, jax.random.key(0))
    known = seen["hyperparams"] | dict(hyperparams or {})
    models, tuned = {}, {}
    for name, model in training.networks.items():
        shapes = jax.eval_shape(
            whole(model).init, jax.random.key(0), {k: jnp.zeros(s.shape, s.dtype) for k, s in spec.items()}
        )
        size = _size(shapes.get("params", shapes))
        trained = size if model.tuning is None else _size(state.params.get(name))
        models[name] = (_role(training.merged, name, trained, size), size, training.outputs(name))
        if model.tuning is not None:
            tuned[name] = adapted(state.params.get(name))
    terms = {}
    for name in seen["terms"]:
        scalars = {k.removeprefix(name + "."): v for k, v in known.items() if k.startswith(name + ".")}
        reads = [
            p for scope, paths in training.reads.items() if scope == name or scope.startswith(name + ".") for p in paths
        ]
        terms[name] = (reads, scalars)
    passes = {n: c for n, c in seen["passes"].items() if c}
    aggregator = None
    if training.gradients is not None:
        scalars = {k: known.pop(k, v) for k, v in seen["gradients"].items()}
        aggregator = training.gradients.name, {k.removeprefix("gradients."): v for k, v in scalars.items()}
    rest = {k: v for k, v in known.items() if not any(k.startswith(t + ".") for t in terms)}
    cost = flops(training.step, *training.abstract(), dict(training.spec))
    extra, objective_state = _size(state.params["objective"]), _size(state.objective_state)
    return Description(models, terms, rest, passes, extra, objective_state, aggregator, cost, tuned)


def text(trainings: Mapping[str, Training], hyperparams: Mapping[str, Mapping[str, float]] | None = None) -> str:
    """Format the summaries of all trainings of an experiment.

    Args:
        trainings: name -> Training.
        hyperparams: name of a training -> hyperparameters of its objective that override the file's.
    """
    lines: list[str] = []
    shown: dict[int, str] = {}  # models that trainings share are listed once
    for name, training in trainings.items():
        d = describe(training, (hyperparams or {}).get(name))
        batch = ", ".join(f"{k} {_shape(s)}" for k, s in training.data.spec.items())
        lines += [
            f"training {name}: {training.steps} steps of {training.data.batch_size} of {training.data.size} rows, "
            f"{training.task.name} evaluated on {training.evaluate!r}",
            f"  batch       {batch}",
        ]
        for model, (role, size, outputs) in d.models.items():
            lines.append(f"  model       {model}: {size:,} parameters, {role}")
            if (before := shown.setdefault(id(training.networks[model]), name)) == name:
                lines += [f"                {model}.{k} {_shape(s)}" for k, s in outputs.items()]
            else:
                lines[-1] += f"; outputs as in {before}"
            if model in d.tuned:
                lines.append(f"  trains      {model}: {_some(d.tuned[model])}")
            if model in training.layers:
                how: Any = training.layers[model]
                lines += [f"  layers      {model}: {line}" for line in how.describe()]
        for term, (reads, own) in d.terms.items():
            values = ", ".join(f"{k} {v:g}" for k, v in own.items())
            lines.append(f"  term        {term}: {', '.join(reads)}" + (f" ({values})" if values else ""))
            if "weight" not in own:
                lines[-1] += " (weight: a schedule, or set by the method)"
        read = {p for reads, _ in d.terms.values() for p in reads}
        for model in training.trained:
            outputs = d.models[model][2]
            if "logits" in outputs and not read & {f"{model}.{n}" for n in ("logits", "emissions") if n in outputs}:
                lines.append(
                    f"  warning     no term reads {model}.logits: the layers that compute them may stay untrained"
                )
        for modality, missing, term in lacking(training):
            some = "an unknown number" if missing is None else f"{missing:,}"
            lines.append(
                f"  note        {some} of {training.data.size:,} rows lack {modality!r}, and term {term!r} trains on "
                f'zeros there: where="present.{modality}" leaves them out'
            )
        lines += [f"  note        {line}" for line in without_inputs(training, read=False)]
        lines.append(f"  cost        {d.flops:,} operations per step (matrix products and convolutions)")
        if d.hyperparams:
            lines.append("  hyperparams " + ", ".join(f"{k} {v:g}" for k, v in d.hyperparams.items()))
        if d.gradients:
            values = ", ".join(f"{k} {v:g}" for k, v in d.gradients[1].items())
            lines.append(
                f"  gradients   {d.gradients[0]}" + (f" ({values})" if values else "") + ": one gradient per term"
            )
        if d.passes:
            lines.append(
                "  passes      "
                + ", ".join(f"{n} {c} extra" for n, c in d.passes.items())
                + " (a loop body counts once)"
            )
        if d.extra or d.objective_state:
            lines.append(f"  objective   {d.extra:,} parameters, {d.objective_state:,} state values")
        lines.append("")
    return "\n".join(lines).rstrip()


def _role(training, name, trained, size):
    taken = {
        k.removeprefix(name).removeprefix("."): s for k, s in training.init_from.items() if k.partition(".")[0] == name
    }
    source = "".join(f", {k} from {s}".replace("  ", " ") for k, s in taken.items())
    if "" not in taken and not isinstance(training.models[name], MovingAverage):
        paths = random_variables(training, name, {})
        inside = tuple(f"{path}." for path in taken)
        rest = "the rest " if taken else ""
        if not paths:
            source += f", {rest}from its own init"
        elif not all(f"{p}.".startswith(inside) for p in paths) or not taken:
            source += f", {rest}initialized at random"
    role = training.models[name]
    if not isinstance(role, MovingAverage):
        source += class_names.described(role.labels, training.classes)
    if name in training.trained:
        return ("trained" if trained == size else f"{trained:,} trained ({100 * trained / size:.3g} %)") + source
    if isinstance(role, MovingAverage):
        return f"moving average of {role.of}, decay {role.decay:g}"
    if name in training.cache:
        spec = training.cache[name]
        how = f", {spec.dtype}" if spec.dtype != "float32" else ""
        how += f", {spec.top_k} largest logits at temperature {spec.temperature:g}" if spec.top_k else ""
        size = training.store(name, {}, ".").size
        return f"frozen, cached ({', '.join(spec.outputs)}{how}): run once, {readable(size)} on disk{source}"
    return "frozen" + source


def _some(names: Sequence[str], most: int = 6) -> str:
    """Format the first of a list of names, and how many there are more."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _size(tree) -> int:
    return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


def _shape(s) -> str:
    return f"{s.dtype}[{', '.join(map(str, s.shape))}]"
