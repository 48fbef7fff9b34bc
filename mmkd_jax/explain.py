"""What an experiment will do, from shapes alone: nothing is trained, no data are read."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax import hyperparameters
from mmkd_jax.cache import readable
from mmkd_jax.flops import flops
from mmkd_jax.objective import Term
from mmkd_jax.part import Part
from mmkd_jax.state import augmented_spec, start, variables
from mmkd_jax.views import Context, forward


@dataclasses.dataclass(frozen=True)
class Description:
    """A part as it will run.

    Attributes:
        models: name -> (role, number of parameters, outputs).
        terms: name -> (paths it reads, numbers).
        numbers: dotted name -> value, of those that belong to a method rather than to one of its terms.
        passes: name -> further forward passes in the objective's program; one inside a loop counts once.
        extra: number of parameters of connectors and methods.
        memory: number of values that the objective remembers.
        scheme: name and numbers of the gradient scheme; None without one.
        flops: operations of a step over the whole batch.
    """

    models: dict[str, tuple[str, int, dict[str, jax.ShapeDtypeStruct]]]
    terms: dict[str, tuple[list[str], dict[str, float]]]
    numbers: dict[str, float]
    passes: dict[str, int]
    extra: int
    memory: int
    scheme: tuple[str, dict[str, float]] | None = None
    flops: int = 0


def describe(part: Part, numbers: Mapping[str, float] | None = None) -> Description:
    """Look at a part by abstract evaluation.

    Args:
        part: of an experiment.
        numbers: numbers of the objective that differ from the file's.
    """
    seen: dict[str, Any] = {"reads": {}, "passes": dict.fromkeys(part.models, 0)}
    distillation = part.distillation
    spec = augmented_spec(part.augment, part.spec)

    def look(key):
        state, frozen = start(distillation, part.spec, key)
        batch = {k: jnp.zeros(s.shape, s.dtype) for k, s in spec.items()}
        views, _ = forward(
            distillation.models, variables(state, frozen), batch, Context(state.step, key), distillation.trained
        )

        def counted(name, run):
            def call(*arguments, **options):
                seen["passes"][name] += 1
                return run(*arguments, **options)

            return call

        def record(scope, path):
            paths = seen["reads"].setdefault(scope, [])
            if path not in paths:
                paths.append(path)

        watched = dataclasses.replace(views, record=record, run={n: counted(n, r) for n, r in views.run.items()})
        _, memory = part.objective.init(views)
        # the file's numbers are constants, which are concrete even here
        seen["numbers"] = {k: float(v) for k, v in hyperparameters.numbers(memory).items() if isinstance(v, np.generic)}
        terms, _ = part.objective.apply(state.params["objective"], state.memory, watched)
        given = hyperparameters.numbers({"scheme": state.scheme})
        seen["scheme"] = {k: float(v) for k, v in given.items() if isinstance(v, np.generic)}
        seen["terms"] = [
            jax.tree_util.keystr(p, simple=True, separator=".")
            for p, _ in jax.tree.leaves_with_path(terms, is_leaf=lambda t: isinstance(t, Term))
        ]
        return state

    state = jax.eval_shape(look, jax.random.key(0))
    known = seen["numbers"] | dict(numbers or {})
    models = {}
    for name, model in part.models.items():
        made = jax.eval_shape(model.init, jax.random.key(0), {k: jnp.zeros(s.shape, s.dtype) for k, s in spec.items()})
        models[name] = (_role(part, name), _size(made.get("params", made)), part.outputs(name))
    terms = {}
    for name in seen["terms"]:
        mine = {k.removeprefix(name + "."): v for k, v in known.items() if k.startswith(name + ".")}
        reads = [
            p for scope, paths in seen["reads"].items() if scope == name or scope.startswith(name + ".") for p in paths
        ]
        terms[name] = (reads, mine)
    passes = {n: c for n, c in seen["passes"].items() if c}
    scheme = None
    if part.scheme is not None:
        own = {k: known.pop(k, v) for k, v in seen["scheme"].items()}
        scheme = part.scheme.name, {k.removeprefix("scheme."): v for k, v in own.items()}
    rest = {k: v for k, v in known.items() if not any(k.startswith(t + ".") for t in terms)}
    cost = flops(part.step, *part.abstract(), dict(part.spec))
    extra, memory = _size(state.params["objective"]), _size(state.memory)
    return Description(models, terms, rest, passes, extra, memory, scheme, cost)


def text(parts: Mapping[str, Part], numbers: Mapping[str, Mapping[str, float]] | None = None) -> str:
    """All parts of an experiment, for a person.

    Args:
        parts: of the experiment.
        numbers: part -> numbers of its objective that differ from the file's.
    """
    lines: list[str] = []
    shown: dict[int, str] = {}  # models that parts share are listed once
    for name, part in parts.items():
        d = describe(part, (numbers or {}).get(name))
        batch = ", ".join(f"{k} {_shape(s)}" for k, s in part.data.spec.items())
        lines += [
            f"part {name}: {part.steps} steps of {part.data.batch_size} of {part.data.size} rows, "
            f"{part.task.name} measured on {part.measured!r}",
            f"  batch     {batch}",
        ]
        for model, (role, size, outputs) in d.models.items():
            lines.append(f"  model     {model}: {size:,} parameters, {role}")
            if (before := shown.setdefault(id(part.models[model]), name)) == name:
                lines += [f"              {model}.{k} {_shape(s)}" for k, s in outputs.items()]
            else:
                lines[-1] += f"; outputs as in {before}"
            if model in part.inherit:
                how: Any = part.inherit[model]
                lines += [f"  begins    {model}: {line}" for line in how.describe()]
        for term, (reads, own) in d.terms.items():
            given = ", ".join(f"{k} {v:g}" for k, v in own.items())
            lines.append(f"  term      {term}: {', '.join(reads)}" + (f" ({given})" if given else ""))
            if "weight" not in own:
                lines[-1] += " (weight: a schedule, or set by the method)"
        read = {p for reads, _ in d.terms.values() for p in reads}
        for model in part.trained:
            if "logits" in d.models[model][2] and f"{model}.logits" not in read:
                lines.append(f"  note      no term reads {model}.logits: what gives them may stay as it began")
        lines.append(f"  cost      {d.flops:,} operations a step, in products and convolutions")
        if d.numbers:
            lines.append("  numbers   " + ", ".join(f"{k} {v:g}" for k, v in d.numbers.items()))
        if d.scheme:
            given = ", ".join(f"{k} {v:g}" for k, v in d.scheme[1].items())
            lines.append(f"  gradients {d.scheme[0]}" + (f" ({given})" if given else "") + ": one for each term")
        if d.passes:
            lines.append(
                "  passes    " + ", ".join(f"{n} {c} more" for n, c in d.passes.items()) + " (in a loop: once)"
            )
        if d.extra or d.memory:
            lines.append(f"  objective {d.extra:,} parameters, {d.memory:,} values remembered")
        lines.append("")
    return "\n".join(lines).rstrip()


def _role(part, name):
    taken = {k.removeprefix(name).removeprefix("."): s for k, s in part.take.items() if k.partition(".")[0] == name}
    source = "".join(f", {k} from {s}".replace("  ", " ") for k, s in taken.items())
    if name in part.trained:
        return "trained" + source
    if name in part.ema:
        return "moving average of {}, decay {:g}".format(*part.ema[name])
    if name in part.cache:
        kept = part.kept[name]
        how = f", {kept.dtype}" if kept.dtype != "float32" else ""
        how += f", {kept.top_k} largest logits at temperature {kept.temperature:g}" if kept.top_k else ""
        size = part.store(name, {}, ".").size
        return f"frozen, cached ({', '.join(kept.outputs)}{how}): run once, {readable(size)} on disk{source}"
    return "frozen" + source


def _size(tree) -> int:
    return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


def _shape(s) -> str:
    return f"{s.dtype}[{', '.join(map(str, s.shape))}]"
