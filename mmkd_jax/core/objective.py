"""Objectives: pairs of pure functions that bind losses to model outputs; and the one reduction, `total`."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol, get_origin, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import psum, stop_gradient

from mmkd_jax.core.masking import fill_argument, fill_tree, has_rows, is_shaped
from mmkd_jax.core.outputs import Outputs
from mmkd_jax.errors import UserError, choices
from mmkd_jax.typing import KINDS, Scalar
from mmkd_jax.validation import check_number

_AXIS = "{} has an argument 'axis', which is called axis_name now: rename it, or it no longer gathers"


class Term(NamedTuple):
    """Unreduced values of one loss term, with its mask and weight.

    Attributes:
        values: one value per example (or token, pixel …), or a scalar.
        where: mask of the values that count; None means all.
        weight: factor of this term in the total.
    """

    values: Any
    where: Any = None
    weight: Any = 1.0


@runtime_checkable
class Loss(Protocol):
    """Loss: arrays and hyperparameters -> one value per example (or token, pixel …), or a scalar.

    `term` passes `where` and `axis_name` to a loss that has these arguments.
    """

    def __call__(self, *arrays: Any, **arguments: Any) -> Any: ...


@runtime_checkable
class ObjectiveInit(Protocol):
    """Initialization of an objective: parameters trained along with the student, and the objective state."""

    def __call__(self, outputs: Outputs, /) -> tuple[Any, Any]: ...


@runtime_checkable
class ObjectiveApply(Protocol):
    """Evaluation of an objective: a pytree of Term, and the new objective state."""

    def __call__(self, params: Any, state: Any, outputs: Outputs, /) -> tuple[Any, Any]: ...


class Objective(NamedTuple):
    """An objective: a pair of pure functions, as in optax.

    Attributes:
        init: `(outputs) -> (params, state)`: parameters trained along with the student, and the objective state.
        apply: `(params, state, outputs) -> (terms, state)`; terms is any pytree of Term.
    """

    init: ObjectiveInit
    apply: ObjectiveApply


def term(
    loss: Loss,
    *,
    weight: Scalar | Callable = 1.0,
    where: str | tuple[str, ...] | None = None,
    connect: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> Objective:
    """Bind a loss to paths and hyperparameters: `total += weight · Σ loss / Σ where`.

    A string is a path `MODEL.NAME` (a tuple of them gives a tuple of arrays), unless the loss annotates the argument as
    a string. Arguments that the loss annotates as numbers are hyperparameters in the objective state: sweeps and the
    command line set them without recompiling. A function in place of a number is a schedule of the step. All other
    arguments are static and never called. The argument named `teacher` gets no gradient.

    Values that are not finite in rows outside the mask affect neither value nor gradient if the loss annotates the
    array with an axis `b` or `*n`, such as `Float[Array, "b d"]`; without a shape, this holds for columns of the batch.

    A loss that couples rows, returns one value per row and does not gather over `axis_name` is not detected in the
    per-device forms (shard_map, pmap), where it computes a different loss. Under jit on a mesh, as `mmkd run` trains,
    it is correct.

    Args:
        loss: arrays -> values per example. A loss that couples rows takes `where`, to receive the mask, and
            `axis_name`, to gather the rows of other devices.
        weight: number or schedule.
        where: name(s) of masks in the batch; `batch["valid"]`, if present, is always combined with them.
        connect: argument -> its adapter: a Linen module, trained along with the student, or a function of arrays, such
            as `losses.standardize`.
        **arguments: arguments of the loss.

    Raises:
        UserError: an unknown argument, or a missing required one.

    Example:
        >>> from mmkd_jax import losses
        >>> soft = term(losses.kl, student="student.logits", teacher="teacher.logits", temperature=4)
    """
    asks = inspect.signature(loss, eval_str=True).parameters
    named = getattr(loss, "__name__", "the loss")
    connect = dict(connect or {})
    anything = any(p.kind is p.VAR_KEYWORD for p in asks.values())
    if "axis" in asks and "axis_name" not in asks and "axis" not in arguments:
        raise UserError(_AXIS.format(named))
    for name in [*arguments, *connect]:
        if name not in asks and not anything:
            raise UserError(f"{named} has no argument {name!r}; it has: {choices(set(asks) - {'where', 'axis_name'})}")
    for name, p in asks.items():
        required = p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        if required and name not in arguments and name not in ("where", "axis_name"):
            path = {"labels": "batch.label", "teacher": "teacher.logits"}.get(name, "student.logits")
            raise UserError(f"{named} needs the argument {name!r}: pass a path such as {name}={path!r}")

    def is_path(name):
        value, p = arguments[name], asks.get(name)
        text = p is not None and (p.annotation is str or get_origin(p.annotation) is Literal)
        strings = isinstance(value, tuple) and value and all(isinstance(v, str) for v in value)
        return (isinstance(value, str) or strings) and not text

    paths = {k: v for k, v in arguments.items() if is_path(k)}
    if unfed := set(connect) - set(paths):
        raise UserError(f"connect names {choices(unfed)}, which has no path; arguments with a path: {choices(paths)}")
    if strange := [k for k, module in connect.items() if not callable(module) and not isinstance(module, nn.Module)]:
        raise UserError(f"connect[{strange[0]!r}] is {connect[strange[0]]!r}; expected a Linen module or a function")
    adapted = {k for k in connect if k in asks and has_rows(asks[k].annotation)}
    floats = {"weight"} | {k for k, p in asks.items() if p.annotation in KINDS}
    defaults = {k: p.default for k, p in asks.items() if k in floats and isinstance(p.default, (int, float))}
    hyper = {k: v for k, v in (defaults | arguments).items() if k not in paths} | {"weight": weight}
    hyperparams = {k: v for k, v in hyper.items() if k in floats and not callable(v)}
    schedules = {k: v for k, v in hyper.items() if k in floats and callable(v)}
    static = {k: v for k, v in hyper.items() if k not in floats}
    for k, v in hyperparams.items():
        try:
            check_number(k, v, asks[k].annotation if k in asks else Scalar)
        except UserError as error:
            raise UserError(f"{named}: {error}") from None

    def counted(k, x, mask):
        """Replace the rows outside the mask; without an annotation, only columns of the batch are known to be rows."""
        annotation = asks[k].annotation if k in asks else Any
        if mask is None:
            return x
        if is_shaped(annotation):
            return fill_argument(x, annotation, mask)
        names = paths[k] if isinstance(paths[k], tuple) else (paths[k],)
        return fill_tree(x, mask) if all(n.startswith("batch.") for n in names) else x

    def read(outputs, path):
        return tuple(outputs[p] for p in path) if isinstance(path, tuple) else outputs[path]

    def init(outputs):
        params, state = {}, {}
        for k, module in connect.items():
            if not isinstance(module, nn.Module):
                continue
            ctx = outputs.ctx.at(k)._replace(train=False)
            variables = module.init(ctx.key, *_inputs(module, read(outputs, paths[k]), ctx))
            params[k] = variables["params"]
            state[k] = {c: v for c, v in variables.items() if c != "params"}
        return params, {"hyperparams": {k: np.float32(v) for k, v in hyperparams.items()}, "state": state}

    def apply(params, objective_state, outputs):
        x, state = {k: read(outputs, p) for k, p in paths.items()}, {}
        if "teacher" in x:
            x["teacher"] = stop_gradient(x["teacher"])
        mask = mask_of(outputs, where)
        x = {k: fill_tree(v, mask) if k in adapted else counted(k, v, mask) for k, v in x.items()}
        for k, module in connect.items():
            if not isinstance(module, nn.Module):
                x[k] = module(x[k])
                continue
            ctx = outputs.ctx.at(k)._replace(where=mask)
            variables = {"params": params[k], **objective_state["state"][k]}
            mutable = list(objective_state["state"][k]) if ctx.train else []
            x[k], state[k] = module.apply(variables, *_inputs(module, x[k], ctx), mutable=mutable)
        with jax.numpy_dtype_promotion("standard"):  # optax's schedules mix integer steps and floats
            scheduled = {k: jnp.asarray(f(outputs.ctx.step), jnp.float32) for k, f in schedules.items()}
        current = objective_state["hyperparams"] | scheduled
        factor = current.pop("weight")
        x |= {k: counted(k, x[k], mask) for k in connect}
        ambient = {k: v for k, v in {"axis_name": outputs.ctx.axis_name, "where": mask}.items() if k in asks}
        try:
            values = loss(**x, **current, **static, **ambient)
        except UserError as error:
            adapt = "; if only the widths differ, adapt the argument with connect=" if ", but " in str(error) else ""
            raise UserError(f"{error}{adapt}") from error
        if outputs.ctx.axis_name is not None and jnp.ndim(values) == 0 and "axis_name" not in asks:
            raise UserError(_ungathered(named))
        if mask is not None and jnp.ndim(values) == 0 and "where" not in asks:
            raise UserError(
                f"{named} returns a scalar, to which no mask applies: return one value per row, or take where"
            )
        return Term(values, mask, factor), objective_state | {
            "state": state if outputs.ctx.train else objective_state["state"]
        }

    return Objective(init, apply)


def stateless(function: Callable) -> Objective:
    """Lift a function of outputs that returns terms (or plain values per example) to an objective.

    A function that couples rows takes `axis_name` too, and gathers over it.

    Example:
        >>> small = stateless(lambda outputs: (outputs["student.embedding"] ** 2).mean(-1))
    """
    asks = inspect.signature(function).parameters
    if "axis" in asks and "axis_name" not in asks:
        raise UserError(_AXIS.format(getattr(function, "__name__", "the function")))

    def apply(params, state, outputs):
        out = function(outputs, **({"axis_name": outputs.ctx.axis_name} if "axis_name" in asks else {}))
        terms = jax.tree.map(
            lambda t: t if isinstance(t, Term) else Term(t, mask_of(outputs, ())), out, is_leaf=_is_term
        )
        scalars = any(jnp.ndim(t.values) == 0 for t in jax.tree.leaves(terms, is_leaf=_is_term))
        if outputs.ctx.axis_name is not None and "axis_name" not in asks and scalars:
            raise UserError(_ungathered(getattr(function, "__name__", "the function")))
        return terms, state

    return Objective(lambda outputs: ({}, {}), apply)


def combine(**objectives: Objective) -> Objective:
    """Combine named objectives into one; can be nested.

    Example:
        >>> from mmkd_jax import losses
        >>> both = combine(task=term(losses.cross_entropy, logits="student.logits", labels="batch.label"),
        ...                small=stateless(lambda outputs: (outputs["student.embedding"] ** 2).mean(-1)))
    """
    for name, objective in objectives.items():
        if not isinstance(objective, Objective):
            called = getattr(objective, "__name__", repr(objective))
            raise UserError(
                f"term {name!r} is {called}, not an objective: wrap a loss as term({called}, …), or call a method"
            )

    def named(name, function, *arguments):
        try:
            return function(*arguments)
        except UserError as error:
            raise error.within(f"term {name!r}") from error.__cause__

    def init(outputs):
        initial = {n: named(n, o.init, outputs.at(n)) for n, o in objectives.items()}
        return {n: p for n, (p, _) in initial.items()}, {n: s for n, (_, s) in initial.items()}

    def apply(params, state, outputs):
        results = {n: named(n, o.apply, params[n], state[n], outputs.at(n)) for n, o in objectives.items()}
        return {n: t for n, (t, _) in results.items()}, {n: s for n, (_, s) in results.items()}

    return Objective(init, apply)


def total(terms: Any, axis_name: str | None = None) -> tuple[jax.Array, dict[str, tuple[jax.Array, jax.Array]]]:
    """Reduce terms to a scalar loss: `Σ_terms weight · Σ values / Σ where`, over the global batch.

    Args:
        terms: any pytree of Term.
        axis_name: name of the device axis in the per-device forms. There the value is this device's share: the psum of
            the shares is the loss, and the psum of their gradients is its gradient.

    Returns:
        The value, and name -> (sum, count) over the global batch; add these over batches before dividing.

    Example:
        >>> value, metrics = total({"task": Term(jnp.array([1.0, 3.0, 9.0]), jnp.array([True, True, False]))})
        >>> float(value), [float(m) for m in metrics["task"]]
        (2.0, [4.0, 2.0])
    """
    each, metrics = shares(terms, axis_name)
    return sum(each.values(), jnp.float32(0)), metrics


def shares(
    terms: Any, axis_name: str | None = None
) -> tuple[dict[str, jax.Array], dict[str, tuple[jax.Array, jax.Array]]]:
    """Return the summands of `total`, name of a term -> its weight · Σ values / Σ where; and the metrics."""

    def over_devices(x):
        return psum(x, axis_name) if axis_name else x

    each, metrics = {}, {}
    for path, found in jax.tree.leaves_with_path(terms, is_leaf=_is_term):
        values, where, weight = found.values, found.where, found.weight
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if where is None:
            where = jnp.ones(values.shape, bool)
        elif values.ndim == 0:  # the loss already applied the mask; a scalar counts once
            where = jnp.any(where)
        if where.ndim > values.ndim or where.shape != values.shape[: where.ndim]:
            raise UserError(f"term {name!r}: mask of shape {where.shape} does not fit values of shape {values.shape}")
        where = jnp.broadcast_to(where.reshape(where.shape + (1,) * (values.ndim - where.ndim)), values.shape)
        s, count = jnp.sum(jnp.where(where, values, 0)), over_devices(jnp.sum(where).astype(values.dtype))
        each[name] = jnp.asarray(weight, jnp.float32) * (s / jnp.maximum(count, 1)).astype(jnp.float32)
        metrics[name] = (over_devices(s), count)
    return each, metrics


def _is_term(x) -> bool:
    return isinstance(x, Term)


def _inputs(module, x, ctx):
    """Return a connector's inputs: with the context if its `__call__` takes one."""
    return (x, ctx) if "ctx" in inspect.signature(type(module).__call__).parameters else (x,)


def mask_of(outputs: Outputs, where: str | tuple[str, ...] | None):
    """Return the logical and of the named masks of the batch and `valid`; None without masks."""
    mask = None
    for name in [*masks(where), *(["valid"] if "valid" in outputs.batch else [])]:
        other = outputs["batch." + name]
        if other.dtype != jnp.bool_:
            raise UserError(f"where={name!r} names {other.dtype}{list(other.shape)}; expected a bool mask")
        if mask is not None:
            rank = max(mask.ndim, other.ndim)
            mask, other = (m.reshape(m.shape + (1,) * (rank - m.ndim)) for m in (mask, other))
            other = mask & other
        mask = other
    return mask


def filled(outputs: Outputs, path: str, where: str | tuple[str, ...] | None) -> Any:
    """Return an output with the rows outside a mask filled, for networks of a method, see `masking.fill`."""
    return fill_tree(outputs[path], mask_of(outputs, where))


def masks(*names: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Merge the mask names of several `where=` arguments into one tuple.

    Example:
        >>> masks("labelled", None, ("present.audio", "present.image"))
        ('labelled', 'present.audio', 'present.image')
    """
    return tuple(name for some in names for name in ((some,) if isinstance(some, str) else some or ()))


def _ungathered(name: str) -> str:
    return (
        f"{name} returns one scalar for the whole batch but has no argument axis_name: in the per-device forms it "
        "would see the rows of one device only. Add an argument `axis_name` and gather over it, or train under jit"
    )
