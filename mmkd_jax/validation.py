"""Argument validation: errors name the argument, its shape or value, and the expected input."""

import dataclasses
import functools
import inspect
import math
import numbers
import types
from collections.abc import Callable, Mapping
from typing import (
    Any,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    runtime_checkable,
)

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import checkify
from jaxtyping import AbstractArray

from mmkd_jax.errors import UserError
from mmkd_jax.typing import KINDS, Count, NotNegative, Positive, Share

P = ParamSpec("P")
R = TypeVar("R")


@runtime_checkable
class _HasDtype(Protocol):
    dtype: Any


def validated(function: Callable[P, R]) -> Callable[P, R]:
    """Validate arguments against their annotations, at call time and again when the returned objective runs.

    Arrays must have the dtype kind and rank of their annotation, and axes with the same name must have the same size.
    Numbers must be finite, and `Positive`, `NotNegative` or a `Share` where annotated so; a `Count` is an integer of at
    least 1, an `int` one of at least 0; a `Literal` one of its values; a dataclass an instance of it. Schedules pass
    where the annotation allows a callable, and traced values pass, too. `labels` must lie in 0 … c − 1: this is checked
    where their values are known; under `jit`, the loss of a row out of range is NaN. Under `jit`, labels and traced
    `Positive` numbers raise only if `jax.experimental.checkify.checkify` is applied. Hyperparameters in the state of a
    returned objective or gradient aggregator are checked again when it runs, because the command line may have set
    them.

    Raises:
        UserError: an argument does not match its annotation; names the function, the argument, its value, and what was
            expected.
        TypeError: an unknown or a missing argument.

    Example:
        >>> from mmkd_jax import losses, methods
        >>> losses.kl(jnp.ones((4, 3)), jnp.ones((4, 5)))
        Traceback (most recent call last):
        mmkd_jax.errors.UserError: kl: teacher is float32[4, 5], but c is 3 in student; expected float [*n c]
        >>> methods.crd(6_000, temperature=-1.0)
        Traceback (most recent call last):
        mmkd_jax.errors.UserError: crd: temperature is -1.0; expected a number above 0
    """
    name, signature = function.__name__, inspect.signature(function, eval_str=True)
    annotations = {k: p.annotation for k, p in signature.parameters.items()}
    any_option = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())

    def check(argument, value, sizes):
        try:
            return _check(argument, value, annotations[argument], sizes)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None

    @functools.wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> R:
        if not any_option and (unknown := [k for k in options if k not in annotations]):
            home = _field_of(unknown[0], annotations)
            raise TypeError(f"{name}() has no argument {unknown[0]!r}; {home}it has: {', '.join(annotations)}")
        try:
            bound = signature.bind(*arguments, **options)
        except TypeError as error:
            keyword_only = [k for k, p in signature.parameters.items() if p.kind is p.KEYWORD_ONLY]
            raise TypeError(f"{name}(): {error}; keyword-only: {', '.join(keyword_only) or 'none'}") from None
        values, sizes = bound.arguments, {}
        for argument, value in values.items():
            values[argument] = check(argument, value, sizes)
        _check_rows(name, values, annotations, sizes)
        result: Any = function(*bound.args, **bound.kwargs)
        # index of the state among apply's arguments: 1 for objectives (params, state, outputs), 2 for aggregators
        fields = getattr(result, "_fields", None) or ("", "")
        state_index = {("init", "apply"): 1, ("name", "init", "apply"): 2}.get(fields)
        if state_index is None:
            return result

        def apply(*inputs):
            hyperparams = inputs[state_index].get("hyperparams", {}) if isinstance(inputs[state_index], Mapping) else {}
            for argument, value in hyperparams.items():
                if argument in annotations and not isinstance(value, jax.core.Tracer):
                    check(argument, value, {})
            return result.apply(*inputs)

        return result._replace(apply=apply)

    return call


def check_fields(value: Any) -> None:
    """Validate a dataclass's fields against their annotations, as `validated` does arguments; for `__post_init__`.

    Raises:
        UserError: a field does not match its annotation; names the class, the field, its value, and what was expected.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Blur:
        ...     width: Positive
        ...     __post_init__ = check_fields
        >>> Blur(-1.0)
        Traceback (most recent call last):
        mmkd_jax.errors.UserError: Blur: width is -1.0; expected a number above 0
    """
    for field, annotation in get_type_hints(type(value), include_extras=True).items():
        try:
            _check(field, getattr(value, field), annotation, {})
        except UserError as error:
            raise UserError(f"{type(value).__name__}: {error}") from None


def _field_of(name, annotations) -> str:
    """Return a hint if an unknown argument is a field of a dataclass that another argument accepts."""
    for argument, annotation in annotations.items():
        if dataclasses.is_dataclass(annotation) and name in {f.name for f in dataclasses.fields(annotation)}:
            return f"pass {argument}={getattr(annotation, '__name__', '')}({name}=…); "
    return ""


def _check_rows(name, arguments, annotations, sizes):
    """Reject numbers whose shape does not match the rows, and labels out of range."""
    tokens = "*n" in sizes and "b" not in sizes  # rows span all leading axes
    examples = sizes["*n"][0] if tokens else (sizes["b"][0],) if "b" in sizes else None
    if "axis_name" in annotations and not tokens:
        examples = ()  # rows are coupled: numbers per row make no sense
    for argument, value in arguments.items():
        if annotations[argument] in KINDS or (argument == "where" and tokens):
            _check_per_example(f"{name}: {argument}", value, examples)
        classes = getattr(value, "indices", value if argument == "labels" else None)
        if "c" in sizes and hasattr(classes, "dtype") and jnp.issubdtype(classes.dtype, jnp.integer):
            label = argument if classes is value else f"{argument}.indices"
            _check_range(name, label, classes, sizes["c"][0])
            if classes is value and isinstance(classes, jax.core.Tracer):
                _void_outside(arguments, classes, sizes["c"][0])


def _void_outside(arguments, labels, classes):
    """Make rows with traced labels out of range NaN, which training refuses; a gather would take another class."""
    inside = (labels >= 0) & (labels < classes)
    for mask in (arguments.get("where"), arguments.get("mask")):
        if mask is not None and mask.shape == labels.shape[: mask.ndim]:
            inside = inside | ~mask.reshape(mask.shape + (1,) * (labels.ndim - mask.ndim))
    for argument, x in arguments.items():
        if np.shape(x) == (*labels.shape, classes) and jnp.issubdtype(x.dtype, jnp.floating):
            arguments[argument] = jnp.where(inside[..., None], x, jnp.asarray(jnp.nan, x.dtype))
            return


def check_number(argument: str, value: Any, annotation: Any) -> None:
    """Reject non-numbers, and Python numbers that are not finite or violate their annotation; arrays pass.

    Raises:
        UserError: not a valid number; names the argument, its value, and what was expected.
    """
    if annotation in KINDS and (isinstance(value, bool) or not isinstance(value, (int, float, np.number, _HasDtype))):
        raise UserError(f"{argument} is {_described(value)}; expected a number")
    if isinstance(value, (int, float, np.number)):
        if annotation == Positive and not value > 0:
            raise UserError(f"{argument} is {value}; expected a number above 0")
        if annotation == NotNegative and not value >= 0:
            raise UserError(f"{argument} is {value}; expected a number from 0 on")
        if annotation == Share and not 0 <= value <= 1:
            raise UserError(f"{argument} is {value}; expected a number from 0 to 1")
        if annotation in KINDS and not math.isfinite(value):
            raise UserError(f"{argument} is {value}; expected a finite number")
        if annotation in KINDS and value and not (abs(float(value)) < 3.4028236e38 and np.float32(value)):
            raise UserError(f"{argument} is {value}, which float32 cannot hold; expected 0, or 1e-45 … 3.4e38")
    elif annotation == Positive and isinstance(value, jax.core.Tracer) and value.size:
        low = jnp.min(value)
        checkify.debug_check(low > 0, f"{argument} is {{low}}; expected a number above 0", low=low)


def _check(argument, value, annotation, sizes):
    """Validate one argument; return it, as a record if it is a plain tuple annotated as one."""
    members = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    if (value is None and type(None) in members) or (callable(value) and Callable in members):
        return value
    if (kind := next((k for k in (annotation, *members) if k in KINDS), None)) is not None:
        check_number(argument, value, kind)
        return value
    if get_origin(annotation) is Literal and value not in get_args(annotation):
        raise UserError(f"{argument} is {value!r}; expected {' or '.join(map(repr, get_args(annotation)))}")
    if (whole := next((k for k in members if k in (Count, int)), None)) is not None:
        least = 1 if whole == Count else 0
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
            raise UserError(f"{argument} is {value!r}; expected a whole number, {least} or more")
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type) and not isinstance(value, annotation):
        raise UserError(f"{argument} is {_described(value)}; expected {annotation.__name__}(…)")
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
        raise UserError(f"{argument} is {_described(value)}; expected {expected}")
    for field, x in zip(record._fields, value, strict=True):
        _check(f"{argument}.{field}", x, record.__annotations__[field], sizes)
    return record(*value)


def _check_tuple(argument, value, inner, sizes):
    if not isinstance(value, (tuple, list)):
        raise UserError(f"{argument} is {_described(value)}; expected a tuple of arrays")
    if inner[-1] is not ... and len(value) != len(inner):
        raise UserError(f"{argument} has {len(value)} arrays; expected {len(inner)}")
    for i, x in enumerate(value):
        _check(f"{argument}[{i}]", x, inner[0 if inner[-1] is ... else i], sizes)


def _check_array(argument, value, arrays, sizes):
    expected = " or ".join(f"{a.__name__.split('[')[0].lower()} [{a.dim_str.strip()}]" for a in arrays)
    if not (hasattr(value, "shape") and hasattr(value, "dtype")):
        raise UserError(f"{argument} is {_described(value)}; expected {expected}")
    fitting = [a for a in arrays if not isinstance(a.dtypes, tuple) or str(value.dtype) in a.dtypes]  # Shaped: any
    if not fitting:
        raise UserError(f"{argument} is {_described(value)}; expected {expected}")
    conflict = ""
    for a in fitting:
        candidate = dict(sizes)
        mismatch = _bind(argument, tuple(value.shape), a.dim_str.split(), candidate)
        if mismatch is None:
            sizes.update(candidate)
            return
        conflict = conflict or mismatch
    raise UserError(f"{argument} is {_described(value)}{conflict}; expected {expected}")


def _bind(argument, shape, dims, sizes) -> str | None:
    """Bind axis names to sizes and return None, or return the mismatch (empty for a wrong rank)."""
    variadic = [i for i, d in enumerate(dims) if d == "..." or d.startswith("*")]
    if len(shape) < len(dims) - len(variadic) or (not variadic and len(shape) != len(dims)):
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
    """Require a scalar, or one value per example along the leading axes; other shapes would broadcast wrongly."""
    shape = np.shape(value) if value is not None else ()
    if examples is not None and shape != examples[: len(shape)]:
        each = f", or one value per example {list(examples)}" if examples else ""
        raise UserError(f"{argument} is {_described(value)}; expected a scalar{each}")


def _check_range(name, argument, labels, classes):
    wanted = f"expected 0 … {classes - 1}; give padding a label in this range and mask it out with where="
    if not labels.size:
        return
    if isinstance(labels, jax.core.Tracer):
        message = f"{name}: {argument} go from {{low}} to {{high}}; {wanted}"
        low, high = jnp.min(labels), jnp.max(labels)
        checkify.debug_check((low >= 0) & (high < classes), message, low=low, high=high)
    else:
        known = np.asarray(labels)
        if (outside := known[(known < 0) | (known >= classes)]).size:
            raise UserError(f"{name}: {argument} contain {outside.flat[0]}; {wanted}")


def _described(value) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, tuple):
        fields = getattr(value, "_fields", ())
        return f"a {type(value).__name__} ({', '.join(fields)})" if fields else f"a tuple of {len(value)}"
    return f"{value!r:.60} ({type(value).__name__})"
