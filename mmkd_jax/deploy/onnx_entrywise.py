"""Primitives that work entry by entry: the nodes of ONNX that compute them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mmkd_jax.deploy.onnx_graph import Graph, Tensor, carried

SAME = {
    "abs": "Abs",
    "acos": "Acos",
    "acosh": "Acosh",
    "add": "Add",
    "add_any": "Add",
    "asin": "Asin",
    "asinh": "Asinh",
    "atan": "Atan",
    "atanh": "Atanh",
    "ceil": "Ceil",
    "cos": "Cos",
    "cosh": "Cosh",
    "div": "Div",
    "eq": "Equal",
    "erf": "Erf",
    "exp": "Exp",
    "floor": "Floor",
    "ge": "GreaterOrEqual",
    "gt": "Greater",
    "le": "LessOrEqual",
    "log": "Log",
    "logistic": "Sigmoid",
    "lt": "Less",
    "max": "Max",
    "min": "Min",
    "mul": "Mul",
    "neg": "Neg",
    "pow": "Pow",
    "sign": "Sign",
    "sin": "Sin",
    "sinh": "Sinh",
    "sqrt": "Sqrt",
    "sub": "Sub",
    "tan": "Tan",
    "tanh": "Tanh",
}
"""Primitives that work entry by entry and have an operator in ONNX."""
_ON_NUMBERS = ("Add", "Max", "Min", "Mul", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")
_COMPARED = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")
IDENTITY = ("stop_gradient", "copy", "copy_p", "optimization_barrier", "reduce_precision")
Operator = Callable[[Graph, Any, Sequence[Tensor]], Tensor | list[Tensor]]


def joined(shapes: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Return the sizes of a result that is computed entry by entry: 1 only where all are 1."""
    shapes = [s for s in shapes if s] or [()]  # a scalar goes with any array
    return tuple(
        next((n for n in each if not (isinstance(n, int) and n == 1)), 1) for each in zip(*shapes, strict=True)
    )


def same(graph: Graph, equation: Any, values: Sequence[Tensor]) -> Tensor:
    """A primitive of `SAME`."""
    kind, shape = SAME[equation.primitive.name], joined([x.shape for x in values])
    names = [graph.name(x) for x in values]
    on_bools = equation.invars[0].aval.dtype == np.bool_
    if on_bools and kind in _ON_NUMBERS:
        names = [graph.cast(n, np.int32) for n in names]
    name = graph.node(kind, *names)
    return Tensor(graph.cast(name, np.bool_) if on_bools and kind not in _COMPARED else name, shape)


def _entrywise(make: Callable[..., str]) -> Operator:
    """Wrap `(graph, equation, *names) -> name` as an operator that works entry by entry."""

    def operator(graph, equation, values):
        return Tensor(make(graph, equation, *map(graph.name, values)), joined([x.shape for x in values]))

    return operator


def _one(graph, equation) -> str:
    return graph.constant(1, carried(equation.invars[0].aval.dtype))


def _power(graph, equation, x):
    exponent = equation.params["y"]
    return graph.node("Mul", x, x) if exponent == 2 else graph.node("Pow", x, graph.constant(exponent, np.float32))


def _logical(on_bools: str, on_integers: str):
    def make(graph, equation, *names):
        return graph.node(on_bools if equation.invars[0].aval.dtype == np.bool_ else on_integers, *names)

    return make


def _finite(graph, equation, x):
    return graph.node("Not", graph.node("Or", graph.node("IsNaN", x), graph.node("IsInf", x)))


def _round(graph, equation, x):
    if int(equation.params["rounding_method"]) == 1:
        return graph.node("Round", x)
    away = graph.node("Floor", graph.node("Add", graph.node("Abs", x), graph.constant(0.5, np.float32)))
    return graph.node("Mul", graph.node("Sign", x), away)


def _select(graph, equation, which, *cases):
    on_bools = equation.invars[1].aval.dtype == np.bool_
    names = [graph.cast(n, np.int32) for n in cases] if on_bools else list(cases)
    if equation.invars[0].aval.dtype == np.bool_:
        found = graph.node("Where", which, names[1], names[0])
    else:
        found = names[-1]
        for i in reversed(range(len(names) - 1)):
            found = graph.node("Where", graph.node("Equal", which, graph.constant(i, np.int32)), names[i], found)
    return graph.cast(found, np.bool_) if on_bools else found


def _convert(graph, equation, x):
    before, after = equation.invars[0].aval.dtype, equation.outvars[0].aval.dtype
    narrow = np.issubdtype(before, np.integer) and np.issubdtype(after, np.integer) and carried(after) != after
    if narrow and not np.can_cast(before, after):  # wraps around
        return graph.cast(graph.cast(x, after), carried(after))
    return x if carried(before) == carried(after) else graph.cast(x, carried(after))


def _like_first(graph, equation, values):
    return list(values)


ENTRYWISE: dict[str, Operator] = {
    "and": _entrywise(_logical("And", "BitwiseAnd")),
    "clamp": _entrywise(lambda g, e, low, x, high: g.node("Min", g.node("Max", x, low), high)),
    "convert_element_type": _entrywise(_convert),
    "erfc": _entrywise(lambda g, e, x: g.node("Sub", _one(g, e), g.node("Erf", x))),
    "exp2": _entrywise(lambda g, e, x: g.node("Pow", g.constant(2, np.float32), x)),
    "expm1": _entrywise(lambda g, e, x: g.node("Sub", g.node("Exp", x), _one(g, e))),
    "integer_pow": _entrywise(_power),
    "is_finite": _entrywise(_finite),
    "log1p": _entrywise(lambda g, e, x: g.node("Log", g.node("Add", x, _one(g, e)))),
    "ne": _entrywise(lambda g, e, x, y: g.node("Not", g.node("Equal", x, y))),
    "not": _entrywise(_logical("Not", "BitwiseNot")),
    "or": _entrywise(_logical("Or", "BitwiseOr")),
    "rem": _entrywise(lambda g, e, x, y: g.node("Mod", x, y, fmod=1)),
    "round": _entrywise(_round),
    "rsqrt": _entrywise(lambda g, e, x: g.node("Reciprocal", g.node("Sqrt", x))),
    "select_n": _entrywise(_select),
    "square": _entrywise(lambda g, e, x: g.node("Mul", x, x)),
    "xor": _entrywise(_logical("Xor", "BitwiseXor")),
    **dict.fromkeys(SAME, same),
    **dict.fromkeys(IDENTITY, _like_first),
}
"""Primitive -> its operator."""
