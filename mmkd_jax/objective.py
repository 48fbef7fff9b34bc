"""Objectives: pairs of pure functions that bind losses to what the models gave; and the one reduction."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, get_origin

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import psum, stop_gradient

from mmkd_jax.errors import UserError, choices
from mmkd_jax.losses.checked import BadInput, check_number
from mmkd_jax.losses.number import KINDS, Number
from mmkd_jax.views import Views


class Term(NamedTuple):
    """What a loss says of each row: nothing is reduced yet.

    Attributes:
        values: one per example (or token, pixel …), or a scalar.
        where: the rows that count; None is all of them.
        weight: factor of this term in the total.
    """

    values: Any
    where: Any = None
    weight: Any = 1.0


class Objective(NamedTuple):
    """A pair of pure functions, in optax's manner.

    Attributes:
        init: `(views) -> (params, memory)`: what it trains beside the student, what it remembers.
        apply: `(params, memory, views) -> (terms, memory)`; terms is any pytree of Term.
    """

    init: Callable
    apply: Callable


def term(
    loss: Callable,
    *,
    weight: Number | Callable = 1.0,
    where: str | tuple[str, ...] | None = None,
    connect: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> Objective:
    """Bind a loss to paths and hyperparameters: `total += weight · Σ loss / Σ where`.

    A string is a path `VIEW.NAME` (a tuple of them gives a tuple of arrays), unless the loss annotates the argument as
    a string. Arguments that the loss annotates as numbers live in memory: sweeps and the command line set them without
    recompiling; a function in the place of a number is a schedule of the step. All else is static and never called.
    The argument named `teacher` gets no gradient.

    A loss that couples rows but returns a value per row, and neither names `axis` nor gathers, is not noticed in the
    per-device forms (shard_map, pmap), and would be another loss there. Under jit on a mesh, as `mmkd run` trains, it
    is right.

    Args:
        loss: arrays -> values per example. One that couples rows names `where` (it gets the mask) and `axis` (it
            gathers the other devices' rows).
        weight: number or schedule.
        where: name(s) of masks of the batch; `batch["valid"]` is and-ed in always.
        connect: argument -> what adapts it: a Linen module, trained beside the student, or a function of arrays, such
            as `losses.standardize`.
        **arguments: the loss's own arguments.

    Raises:
        UserError: an argument that the loss does not have, or a required one that is missing.

    Example:
        >>> from mmkd_jax import losses
        >>> soft = term(losses.kl, student="student.logits", teacher="teacher.logits", temperature=4)
    """
    asks = inspect.signature(loss, eval_str=True).parameters
    named = getattr(loss, "__name__", "the loss")
    connect = dict(connect or {})
    anything = any(p.kind is p.VAR_KEYWORD for p in asks.values())
    for name in [*arguments, *connect]:
        if name not in asks and not anything:
            raise UserError(f"{named} has no argument {name!r}; it has: {choices(set(asks) - {'where', 'axis'})}")
    for name, p in asks.items():
        required = p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        if required and name not in arguments and name not in ("where", "axis"):
            path = "batch.label" if name == "labels" else "student.logits"
            raise UserError(f"{named} needs the argument {name!r}: give a path such as {name}={path!r}")

    def is_path(name):
        value, p = arguments[name], asks.get(name)
        text = p is not None and (p.annotation is str or get_origin(p.annotation) is Literal)
        strings = isinstance(value, tuple) and value and all(isinstance(v, str) for v in value)
        return (isinstance(value, str) or strings) and not text

    paths = {k: v for k, v in arguments.items() if is_path(k)}
    if unfed := set(connect) - set(paths):
        raise UserError(f"connect names {choices(unfed)}, which has no path; paths are given for: {choices(paths)}")
    if strange := [k for k, module in connect.items() if not callable(module) and not isinstance(module, nn.Module)]:
        raise UserError(f"connect[{strange[0]!r}] is {connect[strange[0]]!r}; give a Linen module or a function")
    floats = {"weight"} | {k for k, p in asks.items() if p.annotation in KINDS}
    defaults = {k: p.default for k, p in asks.items() if k in floats and isinstance(p.default, (int, float))}
    hyper = {k: v for k, v in (defaults | arguments).items() if k not in paths} | {"weight": weight}
    numbers = {k: v for k, v in hyper.items() if k in floats and not callable(v)}
    schedules = {k: v for k, v in hyper.items() if k in floats and callable(v)}
    static = {k: v for k, v in hyper.items() if k not in floats}
    for k, v in numbers.items():
        try:
            check_number(k, v, asks[k].annotation if k in asks else Number)
        except BadInput as error:
            raise UserError(f"{named}: {error}") from None

    def read(views, path):
        return tuple(views[p] for p in path) if isinstance(path, tuple) else views[path]

    def init(views):
        params, state = {}, {}
        for k, module in connect.items():
            if not isinstance(module, nn.Module):
                continue
            ctx = views.ctx.at(k)._replace(train=False)
            made = module.init(ctx.key, *_inputs(module, read(views, paths[k]), ctx))
            params[k] = made["params"]
            state[k] = {c: v for c, v in made.items() if c != "params"}
        return params, {"numbers": {k: np.float32(v) for k, v in numbers.items()}, "state": state}

    def apply(params, memory, views):
        x, state = {k: read(views, p) for k, p in paths.items()}, {}
        if "teacher" in x:
            x["teacher"] = stop_gradient(x["teacher"])
        mask = mask_of(views, where)
        for k, module in connect.items():
            if not isinstance(module, nn.Module):
                x[k] = module(x[k])
                continue
            ctx = views.ctx.at(k)._replace(where=mask)
            variables = {"params": params[k], **memory["state"][k]}
            mutable = list(memory["state"][k]) if ctx.train else []
            x[k], state[k] = module.apply(variables, *_inputs(module, x[k], ctx), mutable=mutable)
        with jax.numpy_dtype_promotion("standard"):  # optax's schedules mix integer steps and floats
            now = {k: jnp.asarray(f(views.ctx.step), jnp.float32) for k, f in schedules.items()}
        now = memory["numbers"] | now
        factor = now.pop("weight")
        ambient = {k: v for k, v in {"axis": views.ctx.axis, "where": mask}.items() if k in asks}
        try:
            values = loss(**x, **now, **static, **ambient)
        except BadInput as error:
            adapt = "; connect= adapts an argument where only widths differ" if ", but " in str(error) else ""
            raise UserError(f"{error}{adapt}") from error
        if views.ctx.axis is not None and jnp.ndim(values) == 0 and "axis" not in asks:
            raise UserError(_ungathered(named))
        return Term(values, mask, factor), memory | {"state": state if views.ctx.train else memory["state"]}

    return Objective(init, apply)


def stateless(function: Callable) -> Objective:
    """Lift a function of views that returns terms (or bare values per example) to an objective.

    A function that couples rows names `axis` too and gathers over it.

    Example:
        >>> small = stateless(lambda views: (views["student.embedding"] ** 2).mean(-1))
    """
    asks = inspect.signature(function).parameters

    def apply(params, memory, views):
        out = function(views, **({"axis": views.ctx.axis} if "axis" in asks else {}))
        terms = jax.tree.map(lambda t: t if isinstance(t, Term) else Term(t, mask_of(views, ())), out, is_leaf=_is_term)
        if views.ctx.axis is not None and "axis" not in asks:
            if any(jnp.ndim(t.values) == 0 for t in jax.tree.leaves(terms, is_leaf=_is_term)):
                raise UserError(_ungathered(getattr(function, "__name__", "the function")))
        return terms, memory

    return Objective(lambda views: ({}, {}), apply)


def combine(**parts: Objective) -> Objective:
    """Objectives side by side, under names; nests.

    Example:
        >>> from mmkd_jax import losses
        >>> both = combine(task=term(losses.cross_entropy, logits="student.logits", labels="batch.label"),
        ...                small=stateless(lambda views: (views["student.embedding"] ** 2).mean(-1)))
    """

    for name, part in parts.items():
        if not isinstance(part, Objective):
            called = getattr(part, "__name__", repr(part))
            raise UserError(
                f"term {name!r} is {called}, no objective: a loss goes into term({called}, …), a method is called"
            )

    def named(name, function, *arguments):
        try:
            return function(*arguments)
        except UserError as error:
            raise UserError(f"term {name!r}: {error}") from error.__cause__

    def init(views):
        made = {n: named(n, o.init, views.at(n)) for n, o in parts.items()}
        return {n: p for n, (p, _) in made.items()}, {n: m for n, (_, m) in made.items()}

    def apply(params, memory, views):
        made = {n: named(n, o.apply, params[n], memory[n], views.at(n)) for n, o in parts.items()}
        return {n: t for n, (t, _) in made.items()}, {n: m for n, (_, m) in made.items()}

    return Objective(init, apply)


def total(terms: Any, axis: str | None = None) -> tuple[jax.Array, dict[str, tuple[jax.Array, jax.Array]]]:
    """The only reduction: `Σ_terms weight · Σ values / Σ where`, over the global batch.

    Args:
        terms: any pytree of Term.
        axis: the device axis in the per-device forms. There the value is this device's share: the psum of shares is the
            whole, and so is the psum of their gradients.

    Returns:
        The value, and name -> (sum, count) over the global batch, to be added up over batches before dividing.

    Example:
        >>> value, metrics = total({"task": Term(jnp.array([1.0, 3.0, 9.0]), jnp.array([True, True, False]))})
        >>> float(value), [float(m) for m in metrics["task"]]
        (2.0, [4.0, 2.0])
    """

    each, metrics = shares(terms, axis)
    return sum(each.values(), jnp.float32(0)), metrics


def shares(terms: Any, axis: str | None = None) -> tuple[dict[str, jax.Array], dict[str, tuple[jax.Array, jax.Array]]]:
    """What `total` adds up: name of a term -> its weight · Σ values / Σ where; and the metrics."""

    def everywhere(x):
        return psum(x, axis) if axis else x

    each, metrics = {}, {}
    for path, (values, where, weight) in jax.tree.leaves_with_path(terms, is_leaf=_is_term):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if where is None:
            where = jnp.ones(values.shape, bool)
        elif values.ndim == 0:  # a scalar has used its mask already; it counts once
            where = jnp.any(where)
        if where.ndim > values.ndim or where.shape != values.shape[: where.ndim]:
            raise UserError(f"term {name!r}: mask of shape {where.shape} does not fit values of shape {values.shape}")
        where = jnp.broadcast_to(where.reshape(where.shape + (1,) * (values.ndim - where.ndim)), values.shape)
        s, count = jnp.sum(jnp.where(where, values, 0)), everywhere(jnp.sum(where).astype(values.dtype))
        each[name] = jnp.asarray(weight, jnp.float32) * (s / jnp.maximum(count, 1)).astype(jnp.float32)
        metrics[name] = (everywhere(s), count)
    return each, metrics


def _is_term(x) -> bool:
    return isinstance(x, Term)


def _inputs(module, x, ctx):
    """Connectors are called like models where they ask for it."""
    return (x, ctx) if "ctx" in inspect.signature(type(module).__call__).parameters else (x,)


def mask_of(views: Views, where: str | tuple[str, ...] | None):
    """The named masks of the batch and `valid`, and-ed; None where there is none."""
    mask = None
    for name in [*masks(where), *(["valid"] if "valid" in views.batch else [])]:
        more = views["batch." + name]
        if more.dtype != jnp.bool_:
            raise UserError(f"where={name!r} names {more.dtype}{list(more.shape)}; a mask is bool")
        if mask is not None:
            rank = max(mask.ndim, more.ndim)
            mask, more = (m.reshape(m.shape + (1,) * (rank - m.ndim)) for m in (mask, more))
            more = mask & more
        mask = more
    return mask


def masks(*given: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Names of masks as one tuple: what several keywords such as `where=` name together.

    Example:
        >>> masks("labelled", None, ("present.audio", "present.image"))
        ('labelled', 'present.audio', 'present.image')
    """
    return tuple(name for some in given for name in ((some,) if isinstance(some, str) else some or ()))


def _ungathered(name: str) -> str:
    return (
        f"{name} returns one number for the whole batch but names no axis: in the per-device forms it would see this "
        "device's rows only. Give it an argument `axis` and gather over it, or train under jit"
    )
