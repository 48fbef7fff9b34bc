"""Rows outside a mask, replaced before they are computed with: a masked NaN reaches neither value nor gradient."""

import types
from collections.abc import Iterator
from typing import Any, Union, get_args, get_origin

import jax
import jax.numpy as jnp
from jaxtyping import AbstractArray, Array, Bool, Shaped


def fill(x: Shaped[Array, "..."], where: Bool[Array, "b ..."], first_axis: int = 0) -> Shaped[Array, "..."]:
    """Replace what a mask leaves out and is not finite by 1, and negative integers by 0; gradients there are 0.

    Selecting a loss's values afterwards is not enough: the gradient of a NaN is NaN, even times 0.

    Args:
        x: any array; returned unchanged if its axis does not have the mask's rows.
        where: mask of rows [b], or of their elements [b, …]; an array without these elements keeps the rows of which
            any element counts.
        first_axis: axis of the rows.

    Example:
        >>> fill(jnp.array([[1.0, 2.0], [jnp.nan, 3.0]]), jnp.array([True, False])).tolist()
        [[1.0, 2.0], [1.0, 3.0]]
    """
    if x.ndim <= first_axis or x.shape[first_axis] != len(where):
        return x
    if x.shape[first_axis : first_axis + where.ndim] != where.shape:
        where = jnp.any(where, tuple(range(1, where.ndim)))
    shape = (1,) * first_axis + where.shape + (1,) * (x.ndim - first_axis - where.ndim)
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        return jnp.where(where.reshape(shape), x, jnp.maximum(x, 0)) if jnp.issubdtype(x.dtype, jnp.integer) else x
    return jnp.where(where.reshape(shape) | jnp.isfinite(x), x, jnp.ones((), x.dtype))


def fill_argument(value: Any, annotation: Any, where: Bool[Array, "b ..."]) -> Any:
    """Replace what a mask leaves out of a loss's argument, if its annotation has an axis of rows, `b` or `*n`.

    Example:
        >>> from jaxtyping import Float
        >>> where, x = jnp.array([True, False]), jnp.array([[2.0], [jnp.nan]])
        >>> fill_argument(x, Float[Array, "b d"], where).tolist(), fill_argument(x, Float[Array, "c d"], where).tolist()
        ([[2.0], [1.0]], [[2.0], [nan]])
    """
    members = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    if isinstance(value, tuple):
        record = next((m for m in members if hasattr(m, "_fields")), None)
        if record is not None and len(record._fields) == len(value):
            kinds = [record.__annotations__[f] for f in record._fields]
            return record(*(fill_argument(x, kind, where) for x, kind in zip(value, kinds, strict=True)))
        inner = next((get_args(m) for m in members if get_origin(m) is tuple), None)
        if inner is None:
            return value
        kinds = [inner[0]] * len(value) if inner[-1] is ... else inner
        if len(kinds) != len(value):  # the loss names it
            return value
        return tuple(fill_argument(x, kind, where) for x, kind in zip(value, kinds, strict=True))
    if not hasattr(value, "dtype"):
        return value
    for m in members:
        if isinstance(m, type) and issubclass(m, AbstractArray) and _is_of(value.dtype, m):
            dims = m.dim_str.split()
            if axes := [i for i, d in enumerate(dims) if d in ("b", "*n")]:
                return fill(value, where, axes[0])
    return value


def _is_of(dtype, annotation) -> bool:
    """Return whether a dtype is one of an annotation's; `Shaped` has all."""
    return not isinstance(annotation.dtypes, list | tuple) or str(dtype) in annotation.dtypes


def has_rows(annotation: Any) -> bool:
    """Return whether an annotation, or a part of it, has an axis of rows, `b` or `*n`."""
    return any({"b", "*n"} & set(array.dim_str.split()) for array in _arrays(annotation))


def is_shaped(annotation: Any) -> bool:
    """Return whether an annotation, or a part of it, is an array with named axes."""
    return any(True for _ in _arrays(annotation))


def _arrays(annotation) -> Iterator[type[AbstractArray]]:
    if isinstance(annotation, type) and issubclass(annotation, AbstractArray):
        yield annotation
        return
    for inner in get_args(annotation) or getattr(annotation, "__annotations__", {}).values():
        yield from _arrays(inner)


def fill_tree(tree: Any, where: Bool[Array, "b ..."] | None) -> Any:
    """Replace what a mask leaves out of arrays whose first axis is the rows; None leaves all."""
    return tree if where is None else jax.tree.map(lambda x: fill(x, where), tree)
