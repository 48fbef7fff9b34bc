"""Fixed-size FIFO queues of embeddings, for contrastive methods."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Bool, Float

from mmkd_jax.collectives import gather
from mmkd_jax.core.objective import Objective, mask_of
from mmkd_jax.errors import UserError
from mmkd_jax.numeric import unit

Queue = dict[str, Any]


def init_queue(method: str, key: jax.Array, size: int, x: Float[Array, "b d"]) -> Queue:
    """Return a queue of random unit vectors, of the width of the embeddings.

    Raises:
        UserError: the batch is larger than the queue.
    """
    if len(x) > size:
        raise UserError(f"{method}: the queue has {size} rows, but the batch has {len(x)}; set size={len(x)} or more")
    return {"rows": unit(jax.random.normal(key, (size, x.shape[-1]))), "next": jnp.int32(0)}


def push(queue: Queue, x: Float[Array, "b d"], where: Bool[Array, " b"] | None, axis_name: str | None) -> Queue:
    """Enqueue the unmasked rows of all devices, overwriting the oldest entries."""
    rows, size = queue["rows"], len(queue["rows"])
    valid, _ = gather(jnp.ones(len(x), bool) if where is None else where, axis_name)
    new_rows, _ = gather(unit(stop_gradient(x).astype(rows.dtype)), axis_name)
    index = (queue["next"] + jnp.cumsum(valid) - 1) % size
    index = jnp.where(valid, index, size)  # out of range: dropped
    next_index = (queue["next"] + jnp.sum(valid)) % size
    return {"rows": rows.at[index].set(new_rows, mode="drop"), "next": next_index.astype(jnp.int32)}


def with_queues(method: str, loss: Objective, paths: Mapping[str, str], size: int, where: Any) -> Objective:
    """Wrap an objective that reads queues as `queued.NAME`; after each step, push the outputs at `paths` onto them."""

    def init(outputs):
        queues = {n: init_queue(method, outputs.ctx.at(n).key, size, outputs[path]) for n, path in paths.items()}
        params, state = loss.init(_add_queues(outputs, queues))
        return params, state | {"queue": queues}

    def apply(params, state, outputs):
        inner = {k: v for k, v in state.items() if k != "queue"}
        out, inner = loss.apply(params, inner, _add_queues(outputs, state["queue"]))
        mask = mask_of(outputs, where)
        queues = {n: push(q, outputs[paths[n]], mask, outputs.ctx.axis_name) for n, q in state["queue"].items()}
        return out, inner | {"queue": queues}

    return Objective(init, apply)


def _add_queues(outputs, queues):
    return outputs.add(queued={name: queue["rows"] for name, queue in queues.items()})
