"""Outputs of a frozen teacher, computed once and loaded from disk."""

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax import files
from mmkd_jax.core import sharding
from mmkd_jax.core.model import Batch, Model, ModelOutputs, StepContext
from mmkd_jax.data.loader import batch_in_order
from mmkd_jax.errors import UserError, choices
from mmkd_jax.training.memory import readable
from mmkd_jax.training.training import Training

_WAITING, _COMPLETE, _INCOMPLETE, _FAILED = range(4)


def compute(
    model: Model, variables: Any, batches: Iterable[Batch], names: Iterable[str], key: jax.Array
) -> dict[str, np.ndarray]:
    """Compute a frozen model's outputs on every row; `mmkd.cached` then replaces the model.

    Args:
        model: the teacher.
        variables: its variables.
        batches: batches that contain each row once and in order; rows with `valid` False are padding and dropped.
        names: names of the outputs to return.
        key: PRNG key for stochastic models; the model runs with train=False.

    Returns:
        name -> [rows, …].

    Raises:
        UserError: the model lacks one of the outputs.
    """
    names, chunks = tuple(names), []

    def pick(outputs):
        if unknown := set(names) - set(outputs):
            raise UserError(f"the teacher has no output {choices(unknown)}; it has: {choices(outputs)}")
        return {n: outputs[n] for n in names}

    for batch, out in answers(model, variables, batches, pick, key):
        valid = np.asarray(batch["valid"]) if "valid" in batch else slice(None)
        chunks.append({n: x[valid] for n, x in out.items()})
    if not chunks:
        raise UserError("there are no batches to run the teacher on")
    return {n: np.concatenate([c[n] for c in chunks]) for n in names}


def answers(
    model: Model,
    variables: Any,
    batches: Iterable[Batch],
    pick: Callable[[ModelOutputs], ModelOutputs],
    key: jax.Array,
    augment: Callable[[Batch, StepContext], Batch] | None = None,
) -> Iterator[tuple[Batch, dict[str, np.ndarray]]]:
    """Yield each batch with a frozen model's outputs, over all local devices, prefetching one batch.

    Args:
        model: the teacher.
        variables: its variables.
        batches: batches of equal size; sharded over the devices if the size is divisible by their number.
        pick: selects from the outputs; compiled with the model.
        key: PRNG key for stochastic models; the model runs with train=False.
        augment: augmentation applied to each batch first, as in training.
    """

    def run(variables, batch):
        ctx = StepContext(jnp.int32(0), key, train=False)
        seen = batch if augment is None else augment(batch, ctx._replace(train=True))
        return pick(model.apply(variables, seen, ctx, {})[0])

    mesh = sharding.make_mesh(jax.local_devices()) if jax.local_device_count() > 1 else None
    compiled = jax.jit(run)
    before = None
    for batch in batches:
        rows = len(next(iter(batch.values())))
        placed = dict(batch) if mesh is None or rows % mesh.size else sharding.shard_batch(batch, mesh)
        now = batch, compiled(variables, placed)
        if before is not None:
            yield before[0], jax.device_get(before[1])
        before = now
    if before is not None:
        yield before[0], jax.device_get(before[1])


def recorded(
    training: Training,
    name: str,
    root: pathlib.Path,
    teacher: Mapping[str, Any],
    variables: Callable[[], Any],
    *,
    log: Callable[[str], None] = print,
    on_start: Callable[[int], None] = lambda batches: None,
    on_metrics: Callable[[int], None] = lambda batch: None,
    check_interrupt: Callable[[], None] = lambda: None,
) -> tuple[dict[str, np.ndarray], str]:
    """Load the cached outputs of a model, computing and writing them first if they are incomplete.

    Args:
        training: a training with the model in `cache`.
        name: name of the model.
        root: directory of all caches, which runs may share; each teacher, data set and selection of outputs has a
            subfolder, named after its digest.
        teacher: identity of the teacher: hashes of its variables and its program.
        variables: loads the variables; only called if records are missing.
        log: called with messages for the user.
        on_start: called with the number of batches, before the first.
        on_metrics: called with the number of finished batches.
        check_interrupt: called after each batch; may raise, and the next call resumes there.

    Returns:
        name -> [num_views, rows, …], memory-mapped; and a digest of their manifest.

    Raises:
        UserError: a full disk, or no permission.
    """
    digest = files.digest(training.store(name, teacher, "").manifest)[:16]
    store = training.store(name, teacher, root / f"{name}-{digest}")
    waiting: list[str] = []

    def busy():
        if not waiting:
            waiting.append(f"waiting for another run, which computes {store.directory}")
            log(waiting[0])
        sharding.process_allgather(_WAITING)
        check_interrupt()
        time.sleep(0.2)

    with contextlib.ExitStack() as stack:
        if sharding.is_primary_process():
            try:
                stack.enter_context(files.locked(root / f".{name}-{digest}.lock", busy))
                state = _COMPLETE if store.is_complete(log) else _INCOMPLETE
            except UserError:
                sharding.process_allgather(_FAILED)
                raise
            sharding.process_allgather(state)
        else:  # in step with the primary process, so that all of them stop on request
            while (state := max(sharding.process_allgather(_WAITING))) == _WAITING:
                check_interrupt()
        if state == _FAILED:
            raise UserError("process 0 stopped: see its message")
        if state == _INCOMPLETE:
            batches = _batches(training, name, store, variables, log, on_start)
            store.build(*batches, check_interrupt, on_metrics, log)
    return store.arrays(), digest


def _batches(training, name, store, variables, log, on_start):
    """Return `(first, step) -> iterator of (row numbers over all views, records)`, and the number of batches."""
    spec, data = training.cache[name], training.data
    each = -(-data.size // data.batch_size)
    total = f"{data.size:,} rows, {store.num_views} view{'s' if store.num_views > 1 else ''}: {readable(store.size)}"
    log(f"computing outputs of {name!r} on {total} in {store.directory}")
    on_start(store.num_views * each)
    own = variables()

    def work(first: int, step: int) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        places = (divmod(number, each) for number in range(first, store.num_views * each, step))
        inputs = (batch_in_order(data, view_index, batch) for view_index, batch in places)
        for batch, out in answers(training.networks[name], own, inputs, spec.pack, jax.random.key(0), training.augment):
            valid, view_index = batch["valid"], int(batch["view_index"][0])
            rows = batch["row"][valid] + view_index * data.size
            yield rows, {f"{name}.{k}": np.asarray(x)[valid] for k, x in out.items()}

    return work, store.num_views * each
