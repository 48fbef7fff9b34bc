"""One step, compiled for one device, a mesh, per device, or a population: the only file that knows meshes."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from mmkd_jax.errors import UserError

AXIS = "data"


def make_mesh(devices=None) -> Mesh:
    """A mesh with one data axis over the devices (default: all)."""
    devices = jax.devices() if devices is None else devices
    # Auto: with explicit axes every contrastive loss on sharded rows would be a type error
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def is_bank(path: Any, x: Any) -> bool:
    """Whether a leaf of memory holds a row for each example: it stands under a name "bank", at the path's end."""
    return x.ndim > 0 and "bank" in [getattr(k, "key", getattr(k, "name", None)) for k in path[-2:]]


def shardings(tree: Any, mesh: Mesh) -> Any:
    """Replicated, but for banks (memory under a name "bank"), whose rows are spread where they divide evenly."""

    def one(path, x):
        # in memory only: a term may be named "bank", too, and then so are its parameters
        bank = any(getattr(k, "name", getattr(k, "key", None)) == "memory" for k in path) and is_bank(path, x)
        even = bank and x.shape[0] % mesh.size == 0
        return NamedSharding(mesh, P(AXIS) if even else P())

    return jax.tree.map_with_path(one, tree)


def place(batch: Any, mesh: Mesh) -> Any:
    """A host batch -> a global batch whose rows are spread over the mesh; each process gives its own rows."""
    rows = NamedSharding(mesh, P(AXIS))
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(rows, np.asarray(x)), batch)


def spread(batch: Any, mesh: Mesh) -> Any:
    """Inside a compiled program: the batch's rows over the mesh."""
    return jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, P(AXIS)))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole value on each device."""
    return NamedSharding(mesh, P())


def everywhere(tree: Any) -> Any:
    """Host values -> arrays on the device; with several processes, on all devices of all of them."""
    return jax.device_put(tree) if jax.process_count() == 1 else jax.device_put(tree, replicated(make_mesh()))


def of_all(value: int) -> list[int]:
    """What each process says; all must ask at the same point.

    Example:
        >>> of_all(3)
        [3]
    """
    if jax.process_count() == 1:
        return [int(value)]
    return np.ravel(multihost_utils.process_allgather(np.int64(value))).tolist()


def leads() -> bool:
    """Whether this process is the one that writes and speaks."""
    return jax.process_index() == 0


def on_mesh(start: Callable, mesh: Mesh) -> Callable:
    """Compile `start(*arguments) -> (state, frozen)` so that the state is made where it will live."""

    def call(*arguments):
        state, frozen = jax.eval_shape(start, *arguments)
        out = (shardings(state, mesh), jax.tree.map(lambda x: replicated(mesh), frozen))
        return jax.jit(start, out_shardings=out)(*arguments)

    return call


def check_divides(rows: int, mesh: Mesh) -> None:
    """Refuse a batch that does not divide over the devices."""
    if rows % mesh.size:
        raise UserError(f"a batch of {rows} rows does not divide over {mesh.size} devices: pad it, or choose another")


def compile_step(
    step: Callable, form: Literal["jit", "shard_map", "pmap"] = "jit", mesh: Mesh | None = None, donate: bool = True
) -> Callable:
    """Compile `step(state, frozen, batch, axis=None)` in one of three forms that give the same numbers.

    Args:
        step: from `make_step`.
        form: "jit": the whole batch is there, XLA shards it over the mesh; "shard_map", "pmap": the step runs per
            device on its rows and gathers by name.
        mesh: None is one device (jit only).
        donate: the state's buffers are reused: go on with the state that the step returns.

    Returns:
        `(state, frozen, batch) -> (state, metrics)`.

    Raises:
        UserError: a batch that does not divide over the devices, or a state that was donated already.
    """
    donated = (0,) if donate else ()
    devices = 1 if mesh is None else mesh.size
    if form == "jit" and mesh is None:
        call = jax.jit(lambda state, frozen, batch: step(state, frozen, batch), donate_argnums=donated)
    elif mesh is None:
        raise UserError(f"form {form!r} runs per device: give it a mesh, such as make_mesh()")
    elif form == "jit":
        call = _on_mesh(step, mesh, donated)
    elif form == "shard_map":
        # check_vma=False: with it the transpose has summed the gradients already, and psum would sum them again
        local = jax.shard_map(
            partial(step, axis=AXIS), mesh=mesh, in_specs=(P(), P(), P(AXIS)), out_specs=P(), check_vma=False
        )
        call = jax.jit(local, donate_argnums=donated)
    elif form == "pmap":
        mapped = jax.pmap(
            partial(step, axis=AXIS), AXIS, in_axes=(None, None, 0), out_axes=None, devices=list(mesh.devices.flat)
        )

        def call(state, frozen, batch):
            return mapped(state, frozen, jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch))
    else:
        raise UserError(f"no form {form!r}; there are: jit, shard_map, pmap")

    def guarded(state, frozen, batch):
        rows = len(next(iter(batch.values())))
        if rows % devices:
            raise UserError(f"a batch of {rows} rows does not divide over {devices} devices: pad it, or choose another")
        # a donated, sharded state passed again crashes the process instead of raising
        if any(x.is_deleted() for x in jax.tree.leaves(state) if isinstance(x, jax.Array)):
            raise UserError("this state went into an earlier step and is gone: use the state which that step returned")
        return call(state, frozen, batch)

    return guarded


def population(step: Callable, frozen_axis: int | None = None, batch_axis: int | None = 0) -> Callable:
    """The step over many members at once: states stacked on a leading axis (seeds, numbers of the objective).

    Args:
        step: from `make_step`.
        frozen_axis: 0 if each member has its own teacher.
        batch_axis: 0 if each member has its own batch, None if all share one.
    """
    return jax.vmap(lambda state, frozen, batch: step(state, frozen, batch), (0, frozen_axis, batch_axis))


def shared_out(function: Callable) -> tuple[Callable, int]:
    """`function(shared, own)` compiled so that each device has its share of own's rows; and how many devices."""
    mesh = make_mesh()
    spread = jax.shard_map(function, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P(AXIS), check_vma=False)
    return jax.jit(spread), mesh.size


def _on_mesh(step, mesh, donated):
    whole, rows = replicated(mesh), NamedSharding(mesh, P(AXIS))
    compiled = {}  # by tree structure: the shardings depend on which leaves are banks

    def call(state, frozen, batch):
        tree = jax.tree.structure(state)
        if tree not in compiled:
            spread = shardings(state, mesh)
            compiled[tree] = jax.jit(
                lambda state, frozen, batch: step(state, frozen, batch),
                in_shardings=(spread, whole, rows),
                out_shardings=(spread, whole),
                donate_argnums=donated,
            )
        return compiled[tree](state, frozen, batch)

    return call
