"""Compile a step for one device, a mesh, per device or a population; all code that handles meshes is here."""

import contextlib
import os
import re
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
    """Return a mesh with one data axis over the devices (default: all)."""
    devices = jax.devices() if devices is None else devices
    # Auto: with explicit axes every contrastive loss on sharded rows would be a type error
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def device_per_core() -> None:
    """Make each CPU core a device, so that the members of a population are sharded over the cores."""
    with contextlib.suppress(RuntimeError):  # the backend is already initialized: keep the caller's choice
        jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)


def threads_for_devices() -> None:
    """Give virtual CPU devices enough threads, if called before the first array.

    XLA has one pool for all of them, a thread per device or per core. A collective holds its thread until all devices
    have joined: two at a time on one device can leave another without a thread, and XLA aborts the process after 40 s.
    """
    forced = re.search(r"--xla_force_host_platform_device_count=(\d+)", os.environ.get("XLA_FLAGS", ""))
    devices = max(jax.config.values["jax_num_cpu_devices"], int(forced[1]) if forced else 1)
    if devices > 1:
        os.environ.setdefault("NPROC", str(16 * devices))  # read by XLA when it starts its CPU client


def is_bank(path: Any, x: Any) -> bool:
    """Return whether a leaf of the objective state is a bank, with a row per example: its path ends in a key "bank"."""
    return x.ndim > 0 and "bank" in [getattr(k, "key", getattr(k, "name", None)) for k in path[-2:]]


def shardings(tree: Any, mesh: Mesh) -> Any:
    """Return shardings of a tree: replicated, except for banks, whose rows are sharded if they divide evenly."""

    def one(path, x):
        # in the objective state only: parameters of a term named "bank" have that key, too
        bank = any(getattr(k, "name", getattr(k, "key", None)) == "objective_state" for k in path) and is_bank(path, x)
        even = bank and x.shape[0] % mesh.size == 0
        return NamedSharding(mesh, P(AXIS) if even else P())

    return jax.tree.map_with_path(one, tree)


def shard_batch(batch: Any, mesh: Mesh) -> Any:
    """Shard a host batch over the mesh, by rows; each process passes its own rows."""
    rows = NamedSharding(mesh, P(AXIS))
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(rows, np.asarray(x)), batch)


def constrain_batch(batch: Any, mesh: Mesh) -> Any:
    """Constrain the batch to be sharded by rows, inside a compiled program."""
    return jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, P(AXIS)))


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding that replicates a value on each device."""
    return NamedSharding(mesh, P())


def replicate(tree: Any) -> Any:
    """Put host values on the device; with several processes, on all devices of all processes."""
    return jax.device_put(tree) if jax.process_count() == 1 else jax.device_put(tree, replicated(make_mesh()))


def process_allgather(value: int) -> list[int]:
    """Gather an integer from all processes; all of them must call this at the same point.

    Example:
        >>> process_allgather(3)
        [3]
    """
    if jax.process_count() == 1:
        return [int(value)]
    return np.ravel(multihost_utils.process_allgather(np.int64(value))).tolist()


def is_primary_process() -> bool:
    """Return whether this is the process that writes files and logs."""
    return jax.process_index() == 0


def on_primary(action: Callable[[], None]) -> None:
    """Call a function in the primary process while the others wait; if it raises, all processes raise.

    Raises:
        UserError: in the other processes, if the function raised.
    """
    error = None
    if is_primary_process():
        try:
            action()
        except BaseException as raised:
            error = raised
    if any(process_allgather(error is not None)):
        raise error or UserError("process 0 stopped: see its message")


def on_mesh(start: Callable, mesh: Mesh) -> Callable:
    """Compile `start(*arguments) -> (state, frozen)` so that the state is created with its final sharding."""

    def call(*arguments):
        state, frozen = jax.eval_shape(start, *arguments)
        out = (shardings(state, mesh), jax.tree.map(lambda x: replicated(mesh), frozen))
        return jax.jit(start, out_shardings=out)(*arguments)

    return call


def check_divides(rows: int, mesh: Mesh) -> None:
    """Raise an error if the batch size is not divisible by the number of devices."""
    if rows % mesh.size:
        raise UserError(f"a batch of {rows} rows does not divide over {mesh.size} devices: pad it, or choose another")


def compile_step(
    step: Callable, form: Literal["jit", "shard_map", "pmap"] = "jit", mesh: Mesh | None = None, donate: bool = True
) -> Callable:
    """Compile `step(state, frozen, batch, axis_name=None)` in one of three forms with the same results.

    Args:
        step: the result of `make_step`.
        form: "jit": the step sees the whole batch, and XLA shards it over the mesh; "shard_map", "pmap": the step runs
            per device on its rows and gathers over `axis_name`.
        mesh: device mesh; None is one device (jit only).
        donate: donate the state's buffers; afterwards use only the returned state.

    Returns:
        `(state, frozen, batch) -> (state, metrics)`.

    Raises:
        UserError: a batch that does not divide over the devices, or a state that has been donated.
    """
    donated = (0,) if donate else ()
    devices = 1 if mesh is None else mesh.size
    if form == "jit" and mesh is None:
        call = jax.jit(lambda state, frozen, batch: step(state, frozen, batch), donate_argnums=donated)
    elif mesh is None:
        raise UserError(f"form {form!r} runs per device and needs a mesh: pass mesh=make_mesh()")
    elif form == "jit":
        call = _on_mesh(step, mesh, donated)
    elif form == "shard_map":
        # check_vma=False: otherwise the transpose sums the gradients, and psum would sum them again
        local = jax.shard_map(
            partial(step, axis_name=AXIS), mesh=mesh, in_specs=(P(), P(), P(AXIS)), out_specs=P(), check_vma=False
        )
        call = jax.jit(local, donate_argnums=donated)
    elif form == "pmap":
        mapped = jax.pmap(
            partial(step, axis_name=AXIS), AXIS, in_axes=(None, None, 0), out_axes=None, devices=list(mesh.devices.flat)
        )

        def call(state, frozen, batch):
            return mapped(state, frozen, jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch))
    else:
        raise UserError(f"form is {form!r}; expected jit, shard_map or pmap")

    def guarded(state, frozen, batch):
        rows = len(next(iter(batch.values())))
        if rows % devices:
            raise UserError(f"a batch of {rows} rows does not divide over {devices} devices: pad it, or choose another")
        # a donated, sharded state passed again crashes the process instead of raising
        if any(x.is_deleted() for x in jax.tree.leaves(state) if isinstance(x, jax.Array)):
            raise UserError("this state was donated to an earlier step: use the state that step returned")
        return call(state, frozen, batch)

    return guarded


def population(step: Callable, frozen_axis: int | None = None, batch_axis: int | None = 0) -> Callable:
    """Vectorize a step over a population: states stacked on a leading axis (seeds, hyperparameters of the objective).

    Args:
        step: the result of `make_step`.
        frozen_axis: 0 if each member has a separate teacher, None if all share one.
        batch_axis: 0 if each member has a separate batch, None if all share one.
    """
    return jax.vmap(lambda state, frozen, batch: step(state, frozen, batch), (0, frozen_axis, batch_axis))


def shard_over_devices(function: Callable) -> tuple[Callable, int]:
    """Compile `function(shared, own)` with the rows of `own` sharded over all devices; also return their number."""
    mesh = make_mesh()
    constrain = jax.shard_map(function, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P(AXIS), check_vma=False)
    return jax.jit(constrain), mesh.size


def _on_mesh(step, mesh, donated):
    whole, rows = replicated(mesh), NamedSharding(mesh, P(AXIS))
    compiled = {}  # by tree structure: the shardings depend on which leaves are banks

    def call(state, frozen, batch):
        tree = jax.tree.structure(state)
        if tree not in compiled:
            constrain = shardings(state, mesh)
            compiled[tree] = jax.jit(
                lambda state, frozen, batch: step(state, frozen, batch),
                in_shardings=(constrain, whole, rows),
                out_shardings=(constrain, whole),
                donate_argnums=donated,
            )
        return compiled[tree](state, frozen, batch)

    return call
