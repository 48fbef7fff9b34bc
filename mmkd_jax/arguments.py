"""Numbers and words of methods, schemes, recipes and attacks, held against their annotations before the first step."""

import functools
import inspect
import numbers
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin

import jax

from mmkd_jax.errors import UserError
from mmkd_jax.losses.checked import BadInput, check_number
from mmkd_jax.losses.number import KINDS, Count
from mmkd_jax.objective import Objective

P = ParamSpec("P")
R = TypeVar("R")


def held(function: Callable[P, R]) -> Callable[P, R]:
    """Refuse an argument that is not what its annotation says; where an objective or a scheme comes out, also later.

    Numbers must be `Positive`, `NotNegative`, a `Share` or just finite, as `term` has it; a `Count` is a whole number
    from 1 on, an `int` one from 0 on; a `Literal` one of its words. Schedules pass where the annotation allows a
    function, and so do traced values. A number that the objective or scheme remembers under the argument's name is
    looked at again when it runs, as the command line may have set it.

    Raises:
        UserError: it names the function, the argument, its value, and what was expected.

    Example:
        >>> from mmkd_jax import methods
        >>> methods.crd(6_000, temperature=-1.0)
        Traceback (most recent call last):
        mmkd_jax.errors.UserError: crd: temperature is -1.0; expected a number above 0
    """
    name, signature = function.__name__, inspect.signature(function, eval_str=True)
    asked = {k: p.annotation for k, p in signature.parameters.items()}

    @functools.wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> R:
        try:
            given = signature.bind(*arguments, **options).arguments
        except TypeError:
            given = {}  # Python says it better
        for argument, value in given.items():
            _check(name, argument, value, asked[argument])
        made: Any = function(*arguments, **options)
        place = 1 if isinstance(made, Objective) else 2 if hasattr(made, "apply") else None  # of the memory
        if place is None:
            return made

        def apply(*inputs):
            own = inputs[place].get("numbers", {}) if isinstance(inputs[place], Mapping) else {}
            for argument, value in own.items():
                if argument in asked and not isinstance(value, jax.core.Tracer):
                    _check(name, argument, value, asked[argument])
            return made.apply(*inputs)

        return made._replace(apply=apply)

    return call


def _check(name: str, argument: str, value: Any, annotation: Any) -> None:
    members = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    if value is None and type(None) in members or callable(value) and Callable in members:
        return
    kind = next((k for k in (annotation, *members) if k in KINDS), None)
    whole = next((k for k in members if k in (Count, int)), None)
    if kind is not None:
        try:
            check_number(argument, value, kind)
        except BadInput as error:
            raise UserError(f"{name}: {error}") from None
    elif whole is not None:
        least = 1 if whole == Count else 0
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
            raise UserError(f"{name}: {argument} is {value!r}; expected a whole number, {least} or more")
    elif get_origin(annotation) is Literal and value not in get_args(annotation):
        words = " or ".join(map(repr, get_args(annotation)))
        raise UserError(f"{name}: {argument} is {value!r}; expected {words}")
