"""Identity of a training: what determines its results, so that results of other code or data are never mixed.

Four aspects are compared when a run resumes or seeds are added: the lowered programs ("code"), the numbers
("settings"), the fingerprints of data and augmentation ("data"), and the origin of initial variables ("sources"). An
edit that changes no program, such as a comment, changes no identity.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmkd_jax import files, tasks
from mmkd_jax.core.model import predict
from mmkd_jax.core.state import init_state
from mmkd_jax.core.step import make_step
from mmkd_jax.data._topics import ROWS
from mmkd_jax.data.grain_loader import GrainLoader
from mmkd_jax.data.in_memory import InMemory
from mmkd_jax.data.loader import batch_spec
from mmkd_jax.errors import UserError, choices
from mmkd_jax.training.lowered import program_hash
from mmkd_jax.training.training import Training

Identity = dict[str, Any]
ASPECTS = ("code", "settings", "data", "sources")
_SETTINGS = ("steps", "evaluate", "microbatches", "evaluate_every", "patience", "select")


def identity(
    training: Training,
    hyperparams: Mapping[str, float] | None = None,
    sources: Mapping[str, Any] | None = None,
    initial: Mapping[str, Any] | None = None,
) -> Identity:
    """Return the identity of a training as JSON values, from shapes alone.

    Args:
        training: the training.
        hyperparams: hyperparameters that override the file's.
        sources: model or dotted path within it -> identity of its initial variables.
        initial: model or dotted path within it -> shapes of its initial variables.

    Returns:
        `{"code": {program: SHA-256}, "settings": {name: value}, "data": fingerprints, "sources": sources}`.
    """
    settings = {name: files.as_json(getattr(training, name)) for name in _SETTINGS}
    values = training.hyperparams | {k: np.float32(v) for k, v in (hyperparams or {}).items()}
    settings |= {
        (k if k.startswith("gradients.") else f"objective.{k}"): float(str(np.float32(v))) for k, v in values.items()
    }
    data: dict[str, Any] = {n: dict(getattr(training, n).fingerprint) for n in ("data", "validation", "test")}
    if training.augment is not None:
        data["augment"] = training.augment_fingerprint
    if isinstance(training.data, InMemory | GrainLoader):
        data["order"] = _batches(training.data)
    settings["metric"] = training.task.metric
    return {
        "code": _programs(training, dict(initial or {})),
        "settings": settings,
        "data": files.as_json(data),
        "sources": dict(sources or {}),
    }


def _programs(training: Training, initial: Mapping[str, Any]) -> dict[str, str]:
    """Return the hashes of a training's programs, with hyperparameters as arguments."""
    distillation, spec = training.distillation, dict(training.spec)
    key = jax.eval_shape(lambda: jax.random.key(0))
    free = {k: jax.ShapeDtypeStruct((), np.float32) for k in training.hyperparams}
    state, frozen = training.abstract(initial_variables=initial)
    gradients = make_step(distillation._replace(optimizer=optax.identity()), training.microbatches)

    def update(gradients, opt_state, params):
        with jax.numpy_dtype_promotion("standard"):
            return distillation.optimizer.update(gradients, opt_state, params)

    programs = {
        "jax": jax.__version__,
        "initializer": program_hash(functools.partial(init_state, distillation, spec), key, initial, free),
        "loss": program_hash(gradients, dataclasses.replace(state, opt_state=optax.EmptyState()), frozen, spec),
        "optimizer": program_hash(update, state.params, state.opt_state, state.params),
        "evaluation": _evaluation(training),
    }
    for name in training.cache:
        own = [] if name in training.init_from else [program_hash(training.initial(name), key)]
        programs[f"cached model {name}"] = files.digest([training.program(name), *own])
    return programs


def _batches(loader: InMemory | GrainLoader) -> str:
    """Hash the program that selects the rows of a batch; both loaders have the same."""
    data = InMemory(loader.dataset, loader.batch_size, loader.num_views, loader.partners, topic=loader.topic)
    arrays = {k: jax.ShapeDtypeStruct((data.size, *s.shape), s.dtype) for k, s in data.dataset.spec.items()}
    arrays |= {} if loader.topic is None else {ROWS: jax.ShapeDtypeStruct((data.size,), jnp.int32)}
    key = jax.eval_shape(lambda: jax.random.key(0))
    return program_hash(data.batch, arrays, key, jax.ShapeDtypeStruct((), jnp.int32))


def _evaluation(training: Training) -> str:
    """Hash the metrics' program, and the scores that made-up means give."""
    loader, model = training.validation, training.networks[training.evaluate]
    known = isinstance(loader, InMemory | GrainLoader)
    spec = batch_spec(loader.dataset, loader.batch_size) if known else dict(loader.spec)
    spec |= {"valid": jax.ShapeDtypeStruct((loader.batch_size,), np.dtype(bool))}
    variables = training.shapes(training.evaluate)[0]

    def measure(variables, batch):
        return tasks.measure(training.task, predict(model, variables, batch), batch)

    try:
        metrics, _, rows = jax.eval_shape(measure, variables, spec)
    except KeyError:
        if known:
            raise
        return ""  # a loader of the user's whose evaluation batches have more columns than its spec
    means = {k: np.linspace(0.1, 0.9, s.size).reshape(s.shape) for k, (s, _) in metrics.items()}
    rows = jax.tree.map(_made_up, rows)

    def scores():
        found = {}
        for function, given in ((training.task.scores, means), (training.task.whole, rows)):
            with contextlib.suppress(Exception):  # of a user's, which made-up means and rows do not suit
                found |= {k: np.asarray(v, np.float64).tolist() for k, v in function(dict(given)).items()}
        return found

    first = scores()
    return files.digest([program_hash(measure, variables, spec), first if repr(first) == repr(scores()) else {}])


def _made_up(like: Any) -> np.ndarray:
    """Return values between 0.1 and 3.9, or the integers 0 and 1, which are classes of every task."""
    largest = 3.9 if jnp.issubdtype(like.dtype, jnp.inexact) else 1.9
    return np.linspace(0.1, largest, like.size).reshape(like.shape).astype(like.dtype)


def differences(saved: Identity, now: Identity) -> dict[str, list[str]]:
    """Return aspect -> its differences, in words; equal aspects are left out.

    Example:
        >>> differences({"settings": {"steps": 8}}, {"settings": {"steps": 16}})
        {'settings': ['steps: 8 there, 16 now']}
    """
    found = {a: files.changes(saved.get(a, {}), now.get(a, {})) for a in ("settings", "data")}
    found["data"] = ["the order of the batches" if x.startswith("order: ") else x for x in found["data"]]
    found["sources"] = _changed_sources(saved.get("sources", {}), now.get("sources", {}))
    before, after = saved.get("code", {}), now.get("code", {})
    if before.get("jax") != after.get("jax"):
        found["code"] = [f"programs of jax {before.get('jax')} and of jax {after.get('jax')} cannot be compared"]
    else:
        programs = [k for k in before | after if before.get(k) != after.get(k)]
        found["code"] = [f"its {choices(programs)} changed"] if programs else []
    return {a: found[a] for a in ASPECTS if found[a]}


def _changed_sources(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    lines = []
    for path in sorted({*before, *after}):
        was, now = before.get(path, {}), after.get(path, {})
        if was.get("from") != now.get("from"):
            lines.append(f"init_from {path}: {was.get('from', 'variables')} there, {now.get('from', 'variables')} now")
        elif was != now:
            what = f"{now['from']!r} was changed or trained again" if "from" in now else "it has other variables"
            lines.append(f"init_from {path}: {what}")
    return lines


def refused(saved: Identity, now: Identity, allowed: frozenset[str] = frozenset()) -> dict[str, list[str]]:
    """Return the differences that are not allowed.

    Args:
        saved: identity of what is in the run folder.
        now: identity of the training as it is now.
        allowed: aspects that may differ. "extend" allows more steps, with their schedule: the optimizer,
            `evaluate_every` and `patience`.
    """
    if "extend" in allowed and saved["settings"]["steps"] < now["settings"]["steps"]:
        schedule = {k: now["settings"][k] for k in ("steps", "evaluate_every", "patience")}
        saved = saved | {"settings": saved["settings"] | schedule}
        saved |= {"code": saved["code"] | {"optimizer": now["code"]["optimizer"]}}
    return {a: lines for a, lines in differences(saved, now).items() if a not in allowed}


def check_same(where: Any, saved: Identity, now: Identity, allowed: frozenset[str] = frozenset()) -> None:
    """Raise if an identity differs in an aspect that is not allowed."""
    if wrong := refused(saved, now, allowed):
        what = "; ".join(line for lines in wrong.values() for line in lines)
        raise UserError(f"{where} belongs to another training: {what}. {remedy(wrong, saved, now)}")


def remedy(wrong: Iterable[str], saved: Identity, now: Identity) -> str:
    """Return what to do about differences in some aspects."""
    wrong = list(wrong)
    flags = " ".join(f"--allow-changed-{aspect}" for aspect in wrong)
    longer = "settings" in wrong and saved["settings"].get("steps", 0) < now["settings"]["steps"]
    extend = "lengthen it (--extend), " if longer else ""
    return (
        f"Revert the change, use another folder (--out), {extend}start over (--fresh), or go on with what differs "
        f"({flags})"
    )
