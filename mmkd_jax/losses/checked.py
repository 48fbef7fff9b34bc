"""Bad input is refused when a loss is traced, in words: the argument, its shape or value, what was expected."""

import functools
import inspect
import math
import types
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, Protocol, TypeVar, Union, get_args, get_origin, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import checkify
from jaxtyping import AbstractArray

from mmkd_jax.losses.number import KINDS, NotNegative, Positive, Share

P = ParamSpec("P")
R = TypeVar("R")


@runtime_checkable
class _HasDtype(Protocol):
    dtype: Any


class BadInput(ValueError):
    """An argument that a loss cannot take."""


def checked(loss: Callable[P, R]) -> Callable[P, R]:
    """Hold every argument of a loss against its own annotation.

    Arrays must have the kind and rank of their annotation, and an axis of one name one size throughout. Numbers that
    are `Positive` or a `Share` must be, where they are Python numbers. `labels` must lie in 0 … c − 1: checked where
    their values are known, and under `jit`, as traced `Positive` numbers are, by `jax.experimental.checkify.checkify`,
    for whoever asks for that.

    Raises:
        BadInput: a ValueError that names the loss, the argument, what it is, and what was expected.
        TypeError: an argument that the loss does not have, or lacks.

    Example:
        >>> from mmkd_jax import losses
        >>> losses.kl(jnp.ones((4, 3)), jnp.ones((4, 5)))
        Traceback (most recent call last):
        mmkd_jax.losses.checked.BadInput: kl: teacher is float32[4, 5], but c is 3 in student; expected float [*n c]
    """
    name, signature = loss.__name__, inspect.signature(loss, eval_str=True)

    @functools.wraps(loss)
    def call(*arguments: P.args, **options: P.kwargs) -> R:
        if unknown := [k for k in options if k not in signature.parameters]:
            known = ", ".join(signature.parameters)
            raise TypeError(f"{name}() has no argument {unknown[0]!r}; it has: {known}")
        sizes: dict[str, tuple[Any, str]] = {}
        try:
            bound = signature.bind(*arguments, **options)
        except TypeError as error:
            words = [k for k, p in signature.parameters.items() if p.kind is p.KEYWORD_ONLY]
            raise TypeError(f"{name}(): {error}; by keyword only: {', '.join(words) or 'nothing'}") from None
        given = bound.arguments
        for argument, value in given.items():
            try:
                given[argument] = _check(argument, value, signature.parameters[argument].annotation, sizes)
            except BadInput as error:
                raise BadInput(f"{name}: {error}") from None
        tokens = "*n" in sizes and "b" not in sizes  # any leading axes
        examples = sizes["*n"][0] if tokens else (sizes["b"][0],) if "b" in sizes else None
        if "axis" in signature.parameters and not tokens:
            examples = ()  # rows are coupled: there is no number of a row's own
        for argument, value in given.items():
            if signature.parameters[argument].annotation in KINDS or argument == "where" and tokens:
                _check_per_example(f"{name}: {argument}", value, examples)
            classes = getattr(value, "indices", value if argument == "labels" else None)
            if "c" in sizes and hasattr(classes, "dtype") and jnp.issubdtype(classes.dtype, jnp.integer):
                of = argument if classes is value else f"{argument}.indices"
                _check_range(name, of, classes, sizes["c"][0])
        return loss(*bound.args, **bound.kwargs)

    return call


def check_number(argument: str, value: Any, annotation: Any) -> None:
    """Refuse what is no number, and a Python number that is not what its annotation says or not finite; arrays pass.

    Raises:
        BadInput: it names the argument, its value, and what was expected.
    """
    if annotation in KINDS and (isinstance(value, bool) or not isinstance(value, (int, float, np.number, _HasDtype))):
        raise BadInput(f"{argument} is {_described(value)}; expected a number")
    if isinstance(value, (int, float, np.number)):
        if annotation == Positive and not value > 0:
            raise BadInput(f"{argument} is {value}; expected a number above 0")
        if annotation == NotNegative and not value >= 0:
            raise BadInput(f"{argument} is {value}; expected a number from 0 on")
        if annotation == Share and not 0 <= value <= 1:
            raise BadInput(f"{argument} is {value}; expected a number from 0 to 1")
        if annotation in KINDS and not math.isfinite(value):
            raise BadInput(f"{argument} is {value}; expected a finite number")
    elif annotation == Positive and isinstance(value, jax.core.Tracer) and value.size:
        low = jnp.min(value)
        checkify.debug_check(low > 0, f"{argument} is {{low}}; expected a number above 0", low=low)


def _check(argument, value, annotation, sizes):
    """The value, or the record that a plain tuple stands for."""
    check_number(argument, value, annotation)
    if annotation in KINDS:
        return value
    if get_origin(annotation) is Literal and value not in get_args(annotation):
        raise BadInput(f"{argument} is {value!r}; expected {' or '.join(map(repr, get_args(annotation)))}")
    if annotation in (int, int | None) and value is not None and (not isinstance(value, int) or value < 1):
        raise BadInput(f"{argument} is {_described(value)}; expected a whole number above 0")
    members = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    arrays = [m for m in members if isinstance(m, type) and issubclass(m, AbstractArray)]
    record = next((m for m in members if hasattr(m, "_fields")), None)
    if get_origin(annotation) is tuple:
        _check_tuple(argument, value, get_args(annotation), sizes)
    elif record and isinstance(value, tuple):
        return _check_record(argument, value, record, sizes)
    elif arrays and not (value is None or any(isinstance(value, m) for m in members if m not in arrays)):
        _check_array(argument, value, arrays, sizes)
    return value


def _check_record(argument, value, record, sizes):
    if len(value) != len(record._fields):
        expected = f"an array or a {record.__name__} ({', '.join(record._fields)})"
        raise BadInput(f"{argument} is {_described(value)}; expected {expected}")
    for field, x in zip(record._fields, value, strict=True):
        _check(f"{argument}.{field}", x, record.__annotations__[field], sizes)
    return record(*value)


def _check_tuple(argument, value, inner, sizes):
    if not isinstance(value, (tuple, list)):
        raise BadInput(f"{argument} is {_described(value)}; expected a tuple of arrays")
    if inner[-1] is not ... and len(value) != len(inner):
        raise BadInput(f"{argument} has {len(value)} arrays; expected {len(inner)}")
    for i, x in enumerate(value):
        _check(f"{argument}[{i}]", x, inner[0 if inner[-1] is ... else i], sizes)


def _check_array(argument, value, arrays, sizes):
    expected = " or ".join(f"{a.__name__.split('[')[0].lower()} [{a.dim_str.strip()}]" for a in arrays)
    if not (hasattr(value, "shape") and hasattr(value, "dtype")):
        raise BadInput(f"{argument} is {_described(value)}; expected {expected}")
    fitting = [a for a in arrays if str(value.dtype) in a.dtypes]
    if not fitting:
        raise BadInput(f"{argument} is {_described(value)}; expected {expected}")
    conflict = ""
    for a in fitting:
        found = dict(sizes)
        wrong = _bind(argument, tuple(value.shape), a.dim_str.split(), found)
        if wrong is None:
            sizes.update(found)
            return
        conflict = conflict or wrong
    raise BadInput(f"{argument} is {_described(value)}{conflict}; expected {expected}")


def _bind(argument, shape, dims, sizes) -> str | None:
    """Give the axes' names their sizes, or say what does not fit."""
    variadic = [i for i, d in enumerate(dims) if d == "..." or d.startswith("*")]
    if len(shape) < len(dims) - len(variadic) or not variadic and len(shape) != len(dims):
        return ""
    if variadic:
        i, extra = variadic[0], len(shape) - len(dims) + 1
        shape = (*shape[:i], tuple(shape[i : i + extra]), *shape[i + extra :])
    for d, size in zip(dims, shape, strict=True):
        if d in ("...", "_"):
            continue
        known, where = sizes.setdefault(d, (int(d), "") if d.isdigit() else (size, argument))
        if known != size:
            axis = d.removeprefix("*")
            return f", but {axis} is {list(known) if isinstance(known, tuple) else known}" + (where and f" in {where}")
    return None


def _check_per_example(argument, value, examples):
    """A scalar, or one for each example, along the leading axes: another shape would broadcast over something else."""
    shape = np.shape(value) if value is not None else ()
    if examples is not None and shape != examples[: len(shape)]:
        each = f", or one for each example {list(examples)}" if examples else ""
        raise BadInput(f"{argument} is {_described(value)}; expected a scalar{each}")


def _check_range(name, argument, labels, classes):
    wanted = f"expected 0 … {classes - 1}; give padding a label in this range and leave it out by where="
    if not labels.size:
        return
    if isinstance(labels, jax.core.Tracer):
        message = f"{name}: {argument} go from {{low}} to {{high}}; {wanted}"
        low, high = jnp.min(labels), jnp.max(labels)
        checkify.debug_check((low >= 0) & (high < classes), message, low=low, high=high)
    else:
        known = np.asarray(labels)
        if (outside := known[(known < 0) | (known >= classes)]).size:
            raise BadInput(f"{name}: {argument} hold {outside.flat[0]}; {wanted}")


def _described(value) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, tuple):
        fields = getattr(value, "_fields", ())
        return f"a {type(value).__name__} ({', '.join(fields)})" if fields else f"a tuple of {len(value)}"
    return f"{value!r:.60} ({type(value).__name__})"
