"""One function for each JAX primitive: the nodes of ONNX that compute it."""

import math
from typing import Any

import numpy as np

from mmkd_jax.deploy.onnx_entrywise import ENTRYWISE, Operator
from mmkd_jax.deploy.onnx_graph import Tensor, Unsupported, carried

_REDUCED = {
    "reduce_sum": "ReduceSum",
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd",
}


def _whole(graph, tensor, shape) -> Tensor:
    """The tensor with all its entries."""
    return tensor if tensor.shape == shape else Tensor(graph.full(tensor, shape), shape)


def _reduce(graph, equation, values):
    name, axes = equation.primitive.name, [int(i) for i in equation.params["axes"]]
    x = graph.full(values[0], equation.invars[0].aval.shape)
    shape = equation.outvars[0].aval.shape
    kind = _REDUCED.get(name) or {"reduce_and": "ReduceMin", "reduce_or": "ReduceMax"}[name]
    on_bools = equation.invars[0].aval.dtype == np.bool_
    found = graph.node(kind, graph.cast(x, np.int32) if on_bools else x, graph.constant(axes, np.int64), keepdims=0)
    return Tensor(graph.cast(found, np.bool_) if on_bools else found, shape)


def _index_of(kind):
    def operator(graph, equation, values):
        (axis,), aval = equation.params["axes"], equation.invars[0].aval
        x = graph.full(values[0], aval.shape)
        x = graph.cast(x, np.int32) if aval.dtype == np.bool_ else x
        out = equation.outvars[0].aval
        return Tensor(graph.cast(graph.node(kind, x, axis=int(axis), keepdims=0), carried(out.dtype)), out.shape)

    return operator


def _cumsum(graph, equation, values):
    aval = equation.invars[0].aval
    axis = graph.constant(equation.params["axis"], np.int64)
    x = graph.full(values[0], aval.shape)
    return Tensor(graph.node("CumSum", x, axis, reverse=int(equation.params["reverse"])), aval.shape)


def _reshape(graph, equation, values):
    return graph.reshape(_whole(graph, values[0], equation.invars[0].aval.shape), equation.outvars[0].aval.shape)


def _broadcast(graph, equation, values):
    """Sizes of 1 at the new axes; operators that need the whole array repeat it."""
    at = dict(zip(equation.params["broadcast_dimensions"], values[0].shape, strict=True))
    return graph.reshape(values[0], tuple(at.get(i, 1) for i in range(len(equation.outvars[0].aval.shape))))


def _concatenate(graph, equation, values):
    names = [graph.full(x, v.aval.shape) for x, v in zip(values, equation.invars, strict=True)]
    axis, out = int(equation.params["dimension"]), equation.outvars[0].aval
    return Tensor(graph.node("Concat", *names, axis=axis), out.shape)


def _stack(graph, equation, values):
    axis, out = int(equation.params["axis"]), equation.outvars[0].aval
    names = []
    for x, v in zip(values, equation.invars, strict=True):
        whole = _whole(graph, x, v.aval.shape)
        names.append(graph.name(graph.reshape(whole, (*v.aval.shape[:axis], 1, *v.aval.shape[axis:]))))
    return Tensor(graph.node("Concat", *names, axis=axis), out.shape)


def _split(graph, equation, values):
    axis, sizes = int(equation.params["axis"]), [int(n) for n in equation.params["sizes"]]
    x = graph.full(values[0], equation.invars[0].aval.shape)
    if len(sizes) == 1:
        return [Tensor(x, equation.outvars[0].aval.shape)]
    names = graph.node("Split", x, graph.constant(sizes, np.int64), outputs=len(sizes), axis=axis)
    return [Tensor(n, v.aval.shape) for n, v in zip(names, equation.outvars, strict=True)]


def _slice(graph, equation, values):
    shape, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    first, last = equation.params["start_indices"], equation.params["limit_indices"]
    steps = equation.params["strides"] or [1] * len(shape)
    axes = [i for i, n in enumerate(shape) if (first[i], last[i], steps[i]) != (0, n, 1)]
    if not axes:
        return values[0]
    x = graph.full(values[0], shape)
    ends = graph.sizes([last[i] for i in axes])
    begins, strides = (graph.constant([int(y[i]) for i in axes], np.int64) for y in (first, steps))
    return Tensor(graph.node("Slice", x, begins, ends, graph.constant(axes, np.int64), strides), out)


def _sliced(graph, x, shape, axes, begins, out) -> Tensor:
    """A slice of constant place: `begins` along `axes`, of the sizes of `out`."""
    name = graph.full(x, shape)
    ends = [b + out[i] for i, b in zip(axes, begins, strict=True)]
    return Tensor(graph.node("Slice", name, *(graph.constant(y, np.int64) for y in (begins, ends, axes))), out)


def _dynamic_slice(graph, equation, values):
    shape, sizes = equation.invars[0].aval.shape, equation.params["slice_sizes"]
    axes = [i for i, n in enumerate(shape) if sizes[i] != n]
    starts = [values[1 + i].constant for i in axes]
    if any(x is None for x in starts) or not all(isinstance(shape[i], int) for i in axes):
        raise Unsupported("a slice whose place is computed")
    begins = [int(np.clip(x, 0, shape[i] - sizes[i])) for i, x in zip(axes, starts, strict=True)]
    return _sliced(graph, values[0], shape, axes, begins, equation.outvars[0].aval.shape) if axes else values[0]


def _reverse(graph, equation, values):
    shape, axes = equation.invars[0].aval.shape, [int(i) for i in equation.params["dimensions"]]
    n, end = len(axes), np.iinfo(np.int64).min
    vectors = [graph.constant(x, np.int64) for x in ([-1] * n, [end] * n, axes, [-1] * n)]
    return Tensor(graph.node("Slice", graph.full(values[0], shape), *vectors), shape)


def _pad(graph, equation, values):
    low, high, inner = zip(*equation.params["padding_config"], strict=True)
    if any(inner):
        raise Unsupported("padding between the entries")
    aval = equation.invars[0].aval
    x, on_bools = graph.full(values[0], aval.shape), aval.dtype == np.bool_
    value = graph.name(values[1])
    x, value = (graph.cast(n, np.int32) for n in (x, value)) if on_bools else (x, value)
    found = graph.node("Pad", x, graph.constant([*low, *high], np.int64), value)
    return Tensor(graph.cast(found, np.bool_) if on_bools else found, equation.outvars[0].aval.shape)


def _tile(graph, equation, values):
    x = graph.full(values[0], equation.invars[0].aval.shape)
    return Tensor(graph.node("Tile", x, graph.sizes([*equation.params["reps"]])), equation.outvars[0].aval.shape)


def _iota(graph, equation, values):
    out, axis = equation.outvars[0].aval, equation.params["dimension"]
    zero, one = (graph.constant(x, np.int64) for x in (0, 1))
    count = graph.node("Squeeze", graph.sizes([out.shape[axis]]), graph.constant([0], np.int64))
    name = graph.cast(graph.node("Range", zero, count, one), carried(out.dtype))
    shape = tuple(n if i == axis else 1 for i, n in enumerate(out.shape))
    return graph.reshape(Tensor(name, (out.shape[axis],)), shape)


def _size(graph, equation, values):
    size = graph.node("Squeeze", graph.sizes([equation.params["dim"]]), graph.constant([0], np.int64))
    return Tensor(graph.cast(size, carried(equation.outvars[0].aval.dtype)), ())


def _dot(graph, equation, values):
    (left_sum, right_sum), (left_batch, right_batch) = equation.params["dimension_numbers"]
    avals = [v.aval for v in equation.invars]
    out = equation.outvars[0].aval
    sides = [_whole(graph, x, aval.shape) for x, aval in zip(values, avals, strict=True)]
    left_free = [i for i in range(len(avals[0].shape)) if i not in (*left_sum, *left_batch)]
    right_free = [i for i in range(len(avals[1].shape)) if i not in (*right_sum, *right_batch)]
    left = graph.transpose(sides[0], [*left_batch, *left_free, *left_sum])
    right = graph.transpose(sides[1], [*right_batch, *right_sum, *right_free])
    count = len(left_batch)
    batch = left.shape[:count]
    summed = math.prod(avals[0].shape[i] for i in left_sum)
    kept = math.prod(avals[1].shape[i] for i in right_free)
    if not batch:  # any number of leading axes, so that weights stay matrices
        left = graph.reshape(left, (*left.shape[: len(left_free)], summed))
        right = graph.reshape(right, (summed, kept))
    else:
        left = graph.reshape(left, (*batch, math.prod(left.shape[count : count + len(left_free)]), summed))
        right = graph.reshape(right, (*batch, summed, kept))
    names = [graph.name(x) for x in (left, right)]
    on_integers = carried(avals[0].dtype) != np.float32 or carried(avals[1].dtype) != np.float32
    names = [graph.cast(n, np.float32) for n in names] if on_integers else names
    found = graph.node("MatMul", *names)
    found = found if carried(out.dtype) == np.float32 else graph.cast(found, carried(out.dtype))
    shape = (*left.shape[:-1], kept)
    return graph.reshape(Tensor(found, shape), out.shape)


def _convolution(graph, equation, values):
    p = equation.params
    if any(n != 1 for n in p["lhs_dilation"]) or p["batch_group_count"] != 1:
        raise Unsupported("a transposed convolution")
    at, out = p["dimension_numbers"], equation.outvars[0].aval
    x, kernel = (
        graph.transpose(_whole(graph, v, e.aval.shape), order)
        for v, e, order in zip(values, equation.invars, (at.lhs_spec, at.rhs_spec), strict=True)
    )
    low, high = zip(*p["padding"], strict=True)
    found = graph.node(
        "Conv",
        graph.name(x),
        graph.name(kernel),
        strides=[int(n) for n in p["window_strides"]],
        pads=[int(n) for n in (*low, *high)],
        dilations=[int(n) for n in p["rhs_dilation"]],
        group=int(p["feature_group_count"]),
    )
    shape = tuple(out.shape[i] for i in at.out_spec)
    return graph.transpose(Tensor(found, shape), np.argsort(at.out_spec).tolist())


def _pool(kind):
    def operator(graph, equation, values):
        p, aval, out = equation.params, equation.invars[0].aval, equation.outvars[0].aval
        windows, strides, padding = p["window_dimensions"], p["window_strides"], p["padding"]
        if any(n != 1 for n in (*p["base_dilation"], *p["window_dilation"])):
            raise Unsupported("a pooling with gaps")
        moving = [i for i, n in enumerate(windows) if n != 1 or strides[i] != 1 or any(padding[i])] or [
            len(windows) - 1
        ]
        others = [i for i in range(len(windows)) if i not in moving]
        order = [*others, *moving]
        x = graph.transpose(_whole(graph, values[0], aval.shape), order)
        sizes = [aval.shape[i] for i in moving]
        x = graph.reshape(x, (math.prod(x.shape[: len(others)]), 1, *sizes))
        low, high = zip(*(padding[i] for i in moving), strict=True)
        how: dict[str, Any] = {
            "kernel_shape": [int(windows[i]) for i in moving],
            "strides": [int(strides[i]) for i in moving],
        }
        how |= {"pads": [int(n) for n in (*low, *high)]}
        how |= {"count_include_pad": 1} if kind == "AveragePool" else {}
        name = graph.node(kind, graph.name(x), **how)
        if kind == "AveragePool":
            name = graph.node("Mul", name, graph.constant(math.prod(how["kernel_shape"]), np.float32))
        whole = tuple(out.shape[i] for i in order)
        pooled = Tensor(name, (*x.shape[:2], *whole[len(others) :]))
        return graph.transpose(graph.reshape(pooled, whole), np.argsort(order).tolist())

    return operator


def _gather(graph, equation, values):
    """Rows of a table, by indices into some of its axes, for each row of the batch or for all; or one slice."""
    dimensions, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    table, indices = (v.aval for v in equation.invars)
    out, places = equation.outvars[0].aval, indices.shape[:-1]
    axes, batching = [int(i) for i in dimensions.start_index_map], [int(i) for i in dimensions.operand_batching_dims]
    fixed = values[1].constant
    if fixed is not None and not places and all(isinstance(table.shape[i], int) for i in axes):
        begins = [int(np.clip(n, 0, table.shape[i] - sizes[i])) for i, n in zip(axes, fixed, strict=True)]
        shape = tuple(sizes[i] if i in axes else n for i, n in enumerate(table.shape))
        return graph.reshape(_sliced(graph, values[0], table.shape, axes, begins, shape), out.shape)
    expected = [1 if i in (*axes, *batching) else n for i, n in enumerate(table.shape)]
    simple = list(sizes) == expected and {*axes} <= {*dimensions.collapsed_slice_dims}
    simple = simple and all(isinstance(table.shape[i], int) for i in axes)
    count = len(batching)
    if not simple or list(dimensions.start_indices_batching_dims) != list(range(count)):
        raise Unsupported("a gather of slices whose place is computed")
    kind, last = carried(indices.dtype), [table.shape[i] - 1 for i in axes]
    if fixed is not None:
        index, inside = (
            graph.constant(np.broadcast_to(x, indices.shape), kind) for x in (fixed, np.clip(fixed, 0, last))
        )
    else:
        index = graph.full(values[1], indices.shape)
        inside = graph.node("Max", index, graph.constant(0, kind))
        inside = graph.node("Min", inside, graph.constant(last, kind))
    free = [i for i in range(len(table.shape)) if i not in (*axes, *batching)]
    ordered = graph.name(graph.transpose(_whole(graph, values[0], table.shape), [*batching, *axes, *free]))
    if batching or len(axes) > 1:
        found = graph.node("GatherND", ordered, graph.cast(inside, np.int64), batch_dims=count)
    else:
        found = graph.node("Gather", ordered, graph.node("Squeeze", inside, graph.constant([-1], np.int64)), axis=0)
    shape = (*places, *(table.shape[i] for i in free))
    within = fixed is not None and ((fixed >= 0) & (fixed <= last)).all()
    if "FILL" in str(equation.params["mode"]).upper() and not within:
        fill, floats = equation.params["fill_value"], np.issubdtype(carried(table.dtype), np.floating)
        if fill is None:
            fill = np.nan if floats else np.iinfo(carried(table.dtype)).min
        known = graph.cast(graph.node("Equal", index, inside), np.int32)
        known = graph.node("ReduceMin", known, graph.constant([-1], np.int64), keepdims=0)
        mask = graph.reshape(Tensor(graph.cast(known, np.bool_), places), (*places, *[1] * len(free)))
        found = graph.node("Where", graph.name(mask), found, graph.constant(fill, carried(table.dtype)))
    offsets = [int(i) for i in dimensions.offset_dims]
    order = [*(i for i in range(len(out.shape)) if i not in offsets), *offsets]
    return graph.transpose(Tensor(found, shape), np.argsort(order).tolist())


OPERATORS: dict[str, Operator] = {
    **ENTRYWISE,
    "argmax": _index_of("ArgMax"),
    "argmin": _index_of("ArgMin"),
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "conv_general_dilated": _convolution,
    "cumsum": _cumsum,
    "dim_as_value": _size,
    "dot_general": _dot,
    "dynamic_slice": _dynamic_slice,
    "expand_dims": _reshape,
    "gather": _gather,
    "iota": _iota,
    "pad": _pad,
    "reduce_and": _reduce,
    "reduce_max": _reduce,
    "reduce_min": _reduce,
    "reduce_or": _reduce,
    "reduce_prod": _reduce,
    "reduce_sum": _reduce,
    "reduce_window_max": _pool("MaxPool"),
    "reduce_window_sum": _pool("AveragePool"),
    "reshape": _reshape,
    "rev": _reverse,
    "slice": _slice,
    "split": _split,
    "squeeze": _reshape,
    "stack": _stack,
    "tile": _tile,
    "transpose": lambda g, e, values: g.transpose(values[0], e.params["permutation"]),
}
"""Primitive -> its operator."""
