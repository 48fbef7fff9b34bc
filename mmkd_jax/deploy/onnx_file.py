"""A trained model as an ONNX file: its program, operator by operator, with a free batch size."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import export
from jax.extend.core import ClosedJaxpr, Literal

import mmkd_jax
from mmkd_jax.core.dependence import needed
from mmkd_jax.deploy.onnx_graph import Graph, Tensor, Unsupported, carried
from mmkd_jax.deploy.onnx_operators import OPERATORS
from mmkd_jax.errors import UserError

_INNER = ("jaxpr", "call_jaxpr", "fun_jaxpr")
_MOST_STEPS = 1_024


def converted(
    function: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]],
    variables: Mapping[str, np.ndarray],
    rows: Mapping[str, jax.ShapeDtypeStruct],
    batch: int | None = None,
    name: str = "student",
) -> Any:
    """Convert a function of variables and a batch to an ONNX model, an `onnx.ModelProto`.

    Floats of 16 bits are computed in float32, and such outputs are float32.

    Args:
        function: `(variables, batch) -> outputs`, flat dicts; variables are in the given order.
        variables: name -> value; they become constants of these names.
        rows: column -> shape and dtype of one row.
        batch: number of rows; None is any.
        name: name of the graph.

    Raises:
        UserError: an operator that ONNX lacks; names it, and where in the model it is.
    """
    count = batch or export.symbolic_shape("b")[0]
    columns = {k: jax.ShapeDtypeStruct((count, *s.shape), s.dtype) for k, s in rows.items()}
    names = list(variables)
    shapes = {n: jax.ShapeDtypeStruct(np.shape(x), x.dtype) for n, x in variables.items()}
    program, tree, used = needed(lambda v, b: function({n: v[n] for n in names}, b), shapes, columns)
    live = {n: np.asarray(variables[n]) for n, use in used[0].items() if use}
    graph = Graph(count, {id(x): n for n, x in live.items()})
    values = {n: Tensor(x, x.shape) for n, x in live.items()}
    for column in (k for k, use in used[1].items() if use):
        shape, dtype = columns[column].shape, columns[column].dtype
        kept = np.float32 if np.dtype(dtype).name == "bfloat16" else dtype
        graph.inputs.append(graph.describe(column, kept, shape))
        values[column] = Tensor(column if kept == carried(dtype) else graph.cast(column, carried(dtype)), shape)
    arguments = [values[k] for each in used for k, use in each.items() if use]
    results = _run(graph, program.jaxpr, program.consts, arguments)
    outputs = jax.tree.unflatten(tree, range(len(results)))
    for output, i in outputs.items():
        aval: Any = program.out_avals[i]
        kept = np.dtype(np.float32) if np.issubdtype(carried(aval.dtype), np.floating) else np.dtype(aval.dtype)
        found = graph.full(results[i], aval.shape)
        found = found if kept == carried(aval.dtype) else graph.cast(found, kept)
        graph.node("Identity", found, name=output)
        graph.outputs.append(graph.describe(output, kept, aval.shape))
    return graph.model(name, mmkd_jax.__version__)


def _run(graph: Graph, jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Tensor]) -> list[Tensor]:
    """Add the nodes of a program, and return its results."""
    known: dict[Any, Tensor] = {}
    for variable, value in zip(jaxpr.constvars, consts, strict=True):
        known[variable] = Tensor(np.asarray(value), np.shape(value))
    known.update(zip(jaxpr.invars, arguments, strict=True))

    def read(variable):
        if isinstance(variable, Literal):
            aval: Any = variable.aval
            return Tensor(np.asarray(variable.val, aval.dtype), np.shape(variable.val))
        return known[variable]

    for equation in jaxpr.eqns:
        values = [read(v) for v in equation.invars]
        found = _equation(graph, equation, values)
        known.update(zip(equation.outvars, found, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _equation(graph: Graph, equation: Any, values: Sequence[Tensor]) -> list[Tensor]:
    name, params = equation.primitive.name, equation.params
    if name == "platform_index":  # ONNX takes the path of the CPU
        known = [p is None or "cpu" in p for p in params["platforms"]]
        return [Tensor(np.asarray(known.index(True), np.int32), ())]
    if name == "cond" and values[0].constant is not None:
        branches = params["branches"]
        chosen = branches[int(np.clip(values[0].constant, 0, len(branches) - 1))]
        return _run(graph, chosen.jaxpr, chosen.consts, values[1:])
    if name == "scan":
        return _unrolled(graph, equation, values)
    inner = next((params[k] for k in _INNER if k in params), None) if name not in ("cond", "while") else None
    if inner is not None:
        consts = inner.consts if isinstance(inner, ClosedJaxpr) else ()
        return _run(graph, getattr(inner, "jaxpr", inner), consts, values)
    if (folded := _folded(equation, values)) is not None:
        return folded
    operator = OPERATORS.get(name)
    try:
        if operator is None:
            raise Unsupported(f"operator {name!r}")
        found = operator(graph, equation, values)
    except Unsupported as error:
        where = str(equation.source_info.name_stack)
        raise UserError(
            f"{error}{f' in {where}' * bool(where)} cannot be exported to ONNX: use --to stablehlo"
        ) from None
    return found if isinstance(found, list) else [found]


def _folded(equation: Any, values: Sequence[Tensor]) -> list[Tensor] | None:
    """Compute what depends on constants alone; None if it depends on more."""
    avals: list[Any] = [v.aval for v in (*equation.invars, *equation.outvars)]
    if any(x.constant is None for x in values) or not all(isinstance(n, int) for a in avals for n in a.shape):
        return None
    if equation.primitive.name in ("broadcast_in_dim", "dim_as_value"):
        return None  # the first operator repeats nothing, the second depends on the rows
    whole = [np.broadcast_to(x.value, v.aval.shape) for x, v in zip(values, equation.invars, strict=True)]
    found = equation.primitive.bind(*whole, **equation.params)
    each = found if equation.primitive.multiple_results else [found]
    return [Tensor(np.asarray(x), tuple(x.shape)) for x in each]


def _unrolled(graph: Graph, equation: Any, values: Sequence[Tensor]) -> list[Tensor]:
    """Repeat the body of a scan."""
    p, body = equation.params, equation.params["jaxpr"]
    length, constants, carries = p["length"], p["num_consts"], p["num_carry"]
    if not isinstance(length, int) or length > _MOST_STEPS:
        raise UserError(
            f"a scan over {length} steps cannot be exported to ONNX, which takes {_MOST_STEPS:,}: use --to stablehlo"
        )
    first, carry = values[:constants], list(values[constants : constants + carries])
    avals = [v.aval for v in equation.invars[constants + carries :]]
    whole = [
        x if x.shape == a.shape else Tensor(graph.full(x, a.shape), a.shape)
        for x, a in zip(values[constants + carries :], avals, strict=True)
    ]
    rows: list[list[Tensor]] = []
    for step in reversed(range(length)) if p["reverse"] else range(length):
        found = _run(graph, body.jaxpr, body.consts, [*first, *carry, *(_row(graph, x, step) for x in whole)])
        carry = found[:carries]
        rows.append(found[carries:])
    rows = rows[::-1] if p["reverse"] else rows
    stacked = []
    for i, out in enumerate(equation.outvars[carries:]):
        shape = out.aval.shape
        names = [
            graph.full(graph.reshape(_whole(graph, r[i], shape[1:]), (1, *shape[1:])), (1, *shape[1:])) for r in rows
        ]
        stacked.append(Tensor(graph.node("Concat", *names, axis=0), shape))
    return [*carry, *stacked]


def _whole(graph: Graph, x: Tensor, shape: Any) -> Tensor:
    return x if x.shape == shape else Tensor(graph.full(x, shape), shape)


def _row(graph: Graph, x: Tensor, step: int) -> Tensor:
    if x.constant is not None:
        return Tensor(x.constant[step], x.shape[1:])
    return Tensor(graph.node("Gather", graph.name(x), graph.constant(step, np.int64), axis=0), x.shape[1:])
