"""Which inputs of a traced program its results depend on."""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Literal
from jax.interpreters.partial_eval import dce_jaxpr

_CALLS = ("jit", "pjit")  # a jitted function may ignore an argument; any other operation uses all


def used_inputs(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the arguments' structure with True where a leaf is used for a result, by abstract evaluation.

    Example:
        >>> used_inputs(lambda x: x["a"] + 1, {"a": 1.0, "b": 2.0})
        ({'a': True, 'b': False},)
    """
    return needed(function, *arguments)[2]


def needed(function: Callable[..., Any], *arguments: Any) -> tuple[ClosedJaxpr, Any, Any]:
    """Return a function's program without what no result depends on, by abstract evaluation.

    Args:
        function: the function.
        arguments: arrays, or their shapes.

    Returns:
        The program of the leaves that are used; the tree of the results; and the arguments' structure with True where a
        leaf is used.

    Example:
        >>> program, tree, used = needed(lambda x: {"y": x["a"] + 1}, {"a": 1.0, "b": 2.0})
        >>> len(program.in_avals), tree, used
        (1, PyTreeDef({'y': *}), ({'a': True, 'b': False},))
    """
    program, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    jaxpr, used = dce_jaxpr(program.jaxpr, [True] * len(program.out_avals))
    found = jax.tree.unflatten(jax.tree.structure(arguments), used)
    return ClosedJaxpr(jaxpr, program.consts), jax.tree.structure(shapes), found


def depends_on_first(function: Callable[..., Any], *arguments: Any) -> tuple[Any, Any]:
    """Return the shapes of the results, and the same structure with True where one depends on the first argument.

    Example:
        >>> depends_on_first(lambda x, y: {"both": x + y, "one": 2 * y}, 1.0, 2.0)[1]
        {'both': True, 'one': False}
    """
    program, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    first = len(jax.tree.leaves(arguments[0]))
    marked = _marked(program, [i < first for i in range(len(program.jaxpr.invars))])
    return shapes, jax.tree.unflatten(jax.tree.structure(shapes), marked)


def _inner(equation) -> ClosedJaxpr | None:
    program = equation.params.get("jaxpr") if equation.primitive.name in _CALLS else None
    return program if isinstance(program, ClosedJaxpr) else None


def _marked(program: ClosedJaxpr, marked: list[bool]) -> list[bool]:
    seen = {v for v, mark in zip(program.jaxpr.invars, marked, strict=True) if mark}
    for equation in program.jaxpr.eqns:
        marks = [not isinstance(v, Literal) and v in seen for v in equation.invars]
        inner = _inner(equation)
        results = [any(marks)] * len(equation.outvars) if inner is None else _marked(inner, marks)
        seen |= {v for v, mark in zip(equation.outvars, results, strict=True) if mark}
    return [not isinstance(v, Literal) and v in seen for v in program.jaxpr.outvars]
