"""Gradient aggregators: pure functions that combine the gradients of single terms, and helpers for writing them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from mmkd_jax.errors import UserError, choices


class Aggregator(NamedTuple):
    """Gradient aggregator: a pair of pure functions, as in optax, that combine the gradients of an objective's terms.

    Attributes:
        name: display name.
        init: `(names, params) -> state`: learned weights and running statistics; hyperparameters are under the key
            "hyperparams".
        apply: `(gradients, values, state, key) -> (gradient, state)`. `gradients` is the tree of `params` with a
            leading axis of terms, in the order of `values`, which maps the name of a term to its weight · mean. Both
            are over the global batch.
    """

    name: str
    init: Callable[[Sequence[str], Any], Any]
    apply: Callable[[Any, dict[str, Any], Any, Any], tuple[Any, Any]]


def shared(params: Any, over: str = "") -> list[bool]:
    """Return for each leaf whether it is below the dotted path `over`; for an empty path, whether a model owns it.

    Raises:
        UserError: no leaf is below this path.
    """
    paths = [jax.tree_util.keystr(p, simple=True, separator=".") for p, _ in jax.tree.leaves_with_path(params)]
    if not over:
        return [not p.startswith("objective.") for p in paths]
    selected = [f"{p}.".startswith(f"{over}.") for p in paths]
    if not any(selected):
        raise UserError(f"over={over!r} names no trained parameters; there are: {choices(paths)}")
    return selected


def gram(gradients: Any, over: str = "") -> Float[Array, "n n"]:
    """Gram matrix of the terms' gradients, over the shared parameters."""
    first, *rest = (jnp.einsum("ip,jp->ij", g, g, precision="highest") for g in _rows(gradients, over))
    return sum(rest, first)


def norms(gradients: Any, over: str = "") -> Float[Array, " n"]:
    """Norm of each term's gradient, over the shared parameters."""
    first, *rest = (jnp.sum(g * g, 1) for g in _rows(gradients, over))
    return jnp.sqrt(sum(rest, first))


def _rows(gradients, over):
    """Return each shared leaf as [n, p], in float32 or higher precision."""
    leaves = [g for g, s in zip(jax.tree.leaves(gradients), shared(gradients, over), strict=True) if s]
    return [g.reshape(len(g), -1).astype(jnp.promote_types(g.dtype, jnp.float32)) for g in leaves]


def combined(gradients: Any, factors: Float[Array, " n"], over: str | None = None) -> Any:
    """Compute Σ factor · gradient; with `over`, only for the shared parameters, and the plain sum for all others."""
    leaves, tree = jax.tree.flatten(gradients)
    chosen = [True] * len(leaves) if over is None else shared(gradients, over)

    def add(g, is_shared):
        w = (factors if is_shared else jnp.ones_like(factors)).astype(jnp.promote_types(g.dtype, jnp.float32))
        return jnp.sum(w.reshape(-1, *(1,) * (g.ndim - 1)) * g.astype(w.dtype), 0).astype(g.dtype)

    return jax.tree.unflatten(tree, [add(g, c) for g, c in zip(leaves, chosen, strict=True)])


def several(aggregator: str, names: Sequence[str]) -> None:
    """Raise an error if the objective has a single term."""
    if len(names) < 2:
        raise UserError(
            f"{aggregator} combines the gradients of several terms, but the objective has only {choices(names)!r}: "
            "add a term, or omit gradients="
        )


def stacked(values: dict[str, Any], like: dict[str, Any]) -> Float[Array, " n"]:
    """Stack scalars by name into a vector, in the order of another dict and in float32 or higher precision."""
    vector = jnp.stack([jnp.asarray(values[n]) for n in like])
    return vector.astype(jnp.promote_types(vector.dtype, jnp.float32))


def named(vector: Float[Array, " n"], like: dict[str, Any]) -> dict[str, Any]:
    """Split a vector into float32 scalars by name."""
    return {n: vector[i].astype(jnp.float32) for i, n in enumerate(like)}


def descend(
    transform: optax.GradientTransformation, rate: Any, values: dict[str, Any], slopes: dict[str, Any], state: Any
) -> tuple[dict[str, Any], Any]:
    """Take one gradient descent step on an aggregator's learned values."""
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        updates, state = transform.update(slopes, state, values)
    return jax.tree.map(lambda v, u: v - rate * u, values, updates), state
