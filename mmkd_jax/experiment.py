"""Experiments: a Python file that defines a configuration and parts, checked from shapes alone."""

import ast
import dataclasses
import hashlib
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from mmkd_jax import explain, hyperparameters
from mmkd_jax.errors import UserError, choices
from mmkd_jax.given import Given
from mmkd_jax.part import Part
from mmkd_jax.python_file import module, told
from mmkd_jax.state import part_of, variables


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


def load(path: str | pathlib.Path) -> Experiment:
    """Read an experiment file.

    Raises:
        UserError: there is no such file, or it lacks `config` or `parts`.
    """
    path = pathlib.Path(path)
    own = module(path, "experiment", ("config", "parts"))
    if not dataclasses.is_dataclass(own.config) or not hasattr(own.config, "seeds"):
        raise UserError(f"experiment {path}: config must be an instance of a frozen dataclass with a field seeds")
    code = hashlib.sha256(ast.dump(ast.parse(path.read_text())).encode()).hexdigest()
    baseline, own_report = getattr(own, "baseline", None), getattr(own, "report", None)
    parts = told(path, "experiment")(own.parts)
    return Experiment(path.stem, own.config, parts, baseline, own_report, code)


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
                if isinstance(source, Given):
                    if model in part.models and model not in part.inherit:
                        _same_variables(part, model, source.variables)
                    given |= {} if model in part.cache else {model: source.variables}
                    continue
                of, taken, inner = source_of(source)
                if of not in done or taken not in done[of]:
                    have = [f"{n}.{m}" for n in done for m in done[n]]
                    raise UserError(f"take[{model!r}] = {source!r} is no model of an earlier part: {choices(have)}")
                if model not in part.cache:
                    given[model] = part_of(done[of][taken], inner)
            if bare := set(part.cache) - set(part.take):
                raise UserError(
                    f"cache names {choices(bare)}, which takes no variables as a whole: say whose with take=, "
                    '"PART.NAME" or Given(…)'
                )
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


def _same_variables(part: Part, model: str, given: Any) -> None:
    """Refuse variables of another model, which would be found out when it runs first: where it is cached, late."""
    own, its = (
        {jax.tree_util.keystr(p, simple=True, separator="."): list(x.shape) for p, x in jax.tree.leaves_with_path(tree)}
        for tree in (part.shapes(model)[0], given)
    )
    if wrong := sorted(k for k in own | its if own.get(k) != its.get(k)):
        said = f"{wrong[0]} has {its.get(wrong[0], 'nothing')}, expected {own.get(wrong[0], 'nothing')}"
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise UserError(f"take[{model!r}] gives variables of another model: {said}{more}")


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


def source_of(source: str) -> tuple[str, str, str]:
    """Part, model, and the dotted path within its variables."""
    of, _, taken = source.partition(".")
    model, _, inner = taken.partition(".")
    return of, model, inner
