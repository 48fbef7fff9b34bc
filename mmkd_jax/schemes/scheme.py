"""A scheme: a pair of pure functions on the gradients of single terms; and what several schemes share."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from mmkd_jax.errors import UserError, choices


class Scheme(NamedTuple):
    """What becomes of the gradients of an objective's terms, in optax's manner.

    Attributes:
        name: for a person to read.
        init: `(names, params) -> memory`: what it learns or remembers; numbers stand under the name "numbers".
        apply: `(gradients, values, memory, key) -> (gradient, memory)`. `gradients` is the tree of `params` with a
            first axis of terms, in the order of `values`: name of a term -> its weight · mean. Both are of the global
            batch.
    """

    name: str
    init: Callable[[Sequence[str], Any], Any]
    apply: Callable[[Any, dict[str, Any], Any, Any], tuple[Any, Any]]


def shared(params: Any, over: str = "") -> list[bool]:
    """For each leaf, whether it stands under a dotted path; for an empty one, whether it is a model's.

    Raises:
        UserError: nothing stands there.
    """
    paths = [jax.tree_util.keystr(p, simple=True, separator=".") for p, _ in jax.tree.leaves_with_path(params)]
    if not over:
        return [not p.startswith("objective.") for p in paths]
    found = [f"{p}.".startswith(f"{over}.") for p in paths]
    if not any(found):
        raise UserError(f"over={over!r} names no trained parameters; there are: {choices(paths)}")
    return found


def gram(gradients: Any, over: str = "") -> Float[Array, "n n"]:
    """Inner products of the terms' gradients, over what they share."""
    first, *rest = (jnp.einsum("ip,jp->ij", g, g, precision="highest") for g in _rows(gradients, over))
    return sum(rest, first)


def norms(gradients: Any, over: str = "") -> Float[Array, " n"]:
    """The norm of each term's gradient, over what they share."""
    first, *rest = (jnp.sum(g * g, 1) for g in _rows(gradients, over))
    return jnp.sqrt(sum(rest, first))


def _rows(gradients, over):
    """Each shared leaf, [n, p], float32 or more."""
    leaves = [g for g, s in zip(jax.tree.leaves(gradients), shared(gradients, over), strict=True) if s]
    return [g.reshape(len(g), -1).astype(jnp.promote_types(g.dtype, jnp.float32)) for g in leaves]


def combined(gradients: Any, factors: Float[Array, " n"], over: str | None = None) -> Any:
    """Σ factor · gradient; with `over`, only of what the terms share, and the plain sum of all else."""
    leaves, tree = jax.tree.flatten(gradients)
    chosen = [True] * len(leaves) if over is None else shared(gradients, over)

    def add(g, own):
        w = (factors if own else jnp.ones_like(factors)).astype(jnp.promote_types(g.dtype, jnp.float32))
        return jnp.sum(w.reshape(-1, *(1,) * (g.ndim - 1)) * g.astype(w.dtype), 0).astype(g.dtype)

    return jax.tree.unflatten(tree, [add(g, own) for g, own in zip(leaves, chosen, strict=True)])


def several(scheme: str, names: Sequence[str]) -> None:
    """Refuse a single term."""
    if len(names) < 2:
        raise UserError(
            f"{scheme} sets terms against each other, but the objective has only {choices(names)!r}: add a term, or "
            "leave the scheme out"
        )


def stacked(values: dict[str, Any], like: dict[str, Any]) -> Float[Array, " n"]:
    """Scalars by name -> a vector in the order of another dict, float32 or more."""
    vector = jnp.stack([jnp.asarray(values[n]) for n in like])
    return vector.astype(jnp.promote_types(vector.dtype, jnp.float32))


def named(vector: Float[Array, " n"], like: dict[str, Any]) -> dict[str, Any]:
    """A vector -> float32 scalars by name."""
    return {n: vector[i].astype(jnp.float32) for i, n in enumerate(like)}


def descend(
    transform: optax.GradientTransformation, rate: Any, values: dict[str, Any], slopes: dict[str, Any], state: Any
) -> tuple[dict[str, Any], Any]:
    """One step down, of what a scheme learns."""
    with jax.numpy_dtype_promotion("standard"):  # optax's own arithmetic mixes dtypes
        updates, state = transform.update(slopes, state, values)
    return jax.tree.map(lambda v, u: v - rate * u, values, updates), state
