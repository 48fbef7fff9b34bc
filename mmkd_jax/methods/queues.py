"""A first-in-first-out memory of embeddings, of a size that never changes: for methods that compare with other rows."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Bool, Float

from mmkd_jax.errors import UserError
from mmkd_jax.losses.gather import gather
from mmkd_jax.losses.numeric import unit
from mmkd_jax.objective import Objective, mask_of

Queue = dict[str, Any]


def begin(method: str, key: jax.Array, size: int, x: Float[Array, "b d"]) -> Queue:
    """Random rows of length 1, as wide as the embeddings that will come.

    Raises:
        UserError: a batch would not fit.
    """
    if len(x) > size:
        raise UserError(
            f"{method}: the queue holds {size} rows, but a batch has {len(x)}: give it size={len(x)} or more"
        )
    return {"rows": unit(jax.random.normal(key, (size, x.shape[-1]))), "next": jnp.int32(0)}


def push(queue: Queue, x: Float[Array, "b d"], where: Bool[Array, " b"] | None, axis: str | None) -> Queue:
    """The queue after the rows that count, of all devices, have taken the places of its oldest."""
    rows, size = queue["rows"], len(queue["rows"])
    here, _ = gather(jnp.ones(len(x), bool) if where is None else where, axis)
    everyone, _ = gather(unit(stop_gradient(x).astype(rows.dtype)), axis)
    place = (queue["next"] + jnp.cumsum(here) - 1) % size
    place = jnp.where(here, place, size)  # beyond the queue: dropped
    after = (queue["next"] + jnp.sum(here)) % size
    return {"rows": rows.at[place].set(everyone, mode="drop"), "next": after.astype(jnp.int32)}


def beside(method: str, loss: Objective, kept: Mapping[str, str], size: int, where: Any) -> Objective:
    """An objective that finds the queues at `queued.NAME`; each takes in what its path gives, after use."""

    def init(views):
        made = {name: begin(method, views.ctx.at(name).key, size, views[path]) for name, path in kept.items()}
        params, memory = loss.init(_seen(views, made))
        return params, memory | {"queue": made}

    def apply(params, memory, views):
        inner = {k: v for k, v in memory.items() if k != "queue"}
        out, inner = loss.apply(params, inner, _seen(views, memory["queue"]))
        mask = mask_of(views, where)
        after = {n: push(q, views[kept[n]], mask, views.ctx.axis) for n, q in memory["queue"].items()}
        return out, inner | {"queue": after}

    return Objective(init, apply)


def _seen(views, made):
    return views.add(queued={name: queue["rows"] for name, queue in made.items()})
