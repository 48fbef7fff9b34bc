"""Teachers: several as one, and their outputs computed once."""

import hashlib
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax import parallel
from mmkd_jax.cache import readable
from mmkd_jax.data.reader import at_slot
from mmkd_jax.errors import UserError, choices
from mmkd_jax.part import Part
from mmkd_jax.views import Batch, Context, Model, Outputs


def ensemble(models: Mapping[str, Model], weights: Mapping[str, float] | None = None) -> Model:
    """Several teachers as one: every output that all of them give with one shape is averaged.

    Formula: h = Σ_i w_i h_i / Σ_i w_i

    Args:
        models: name -> Model; the ensemble's variables are a dict with these names.
        weights: name -> weight; equal by default.

    Returns:
        A Model without parameters of its own; a patch reaches each member that has the name.

    Example:
        >>> from mmkd_jax.views import plain
        >>> one, two = (plain(lambda params, batch, k=k: {"logits": k * batch["x"]}) for k in (1.0, 3.0))
        >>> both = ensemble({"one": one, "two": two})
        >>> batch = {"x": jnp.ones(2)}
        >>> both.apply(both.init(jax.random.key(0), batch), batch, Context(0, jax.random.key(0)), {})[0]["logits"]
        Array([2., 2.], dtype=float32)
    """
    share = {n: (weights or {}).get(n, 1.0) for n in models}
    scale = sum(share.values())

    def init(key, batch):
        ctx = Context(0, key)
        return {n: m.init(ctx.at(n).key, batch) for n, m in models.items()}

    def apply(variables, batch, ctx, patch):
        outputs = {n: m.apply(variables[n], batch, ctx.at(n), patch)[0] for n, m in models.items()}
        first = next(iter(outputs.values()))
        shared = [k for k, x in first.items() if all(k in o and o[k].shape == x.shape for o in outputs.values())]
        if not shared:
            raise UserError(f"the teachers {choices(models)} share no output of one name and shape")
        return {
            k: sum(jnp.asarray(share[n] / scale, o[k].dtype) * o[k] for n, o in outputs.items()) for k in shared
        }, {}

    return Model(init, apply)


def compute(
    model: Model, variables: Any, batches: Iterable[Batch], names: Iterable[str], key: jax.Array
) -> dict[str, np.ndarray]:
    """A frozen model's outputs on every row, once: what `views.cached` then gives in the model's place.

    Args:
        model: the teacher.
        variables: its variables.
        batches: each row once and in order; rows with `valid` False are padding and left out.
        names: the outputs to keep.
        key: for models that draw; a frozen model runs with train=False.

    Returns:
        name -> [rows, …].

    Raises:
        UserError: the model has no such output.
    """
    names, parts = tuple(names), []

    def pick(outputs):
        if unknown := set(names) - set(outputs):
            raise UserError(f"the teacher has no output {choices(unknown)}; it has: {choices(outputs)}")
        return {n: outputs[n] for n in names}

    for batch, out in answers(model, variables, batches, pick, key):
        valid = np.asarray(batch["valid"]) if "valid" in batch else slice(None)
        parts.append({n: x[valid] for n, x in out.items()})
    return {n: np.concatenate([p[n] for p in parts]) for n in names}


def answers(
    model: Model,
    variables: Any,
    batches: Iterable[Batch],
    pick: Callable[[Outputs], Outputs],
    key: jax.Array,
    augment: Callable[[Batch, Context], Batch] | None = None,
) -> Iterator[tuple[Batch, dict[str, np.ndarray]]]:
    """Each batch with what a frozen model says of it, over all devices of this process, one batch ahead of the host.

    Args:
        model: the teacher.
        variables: its variables.
        batches: of equal size, which divides over the devices.
        pick: what to take of the outputs, part of the compiled program.
        key: for models that draw; a frozen model runs with train=False.
        augment: what the batch goes through before, as in training.
    """

    def run(variables, batch):
        ctx = Context(jnp.int32(0), key, train=False)
        seen = batch if augment is None else augment(batch, ctx._replace(train=True))
        return pick(model.apply(variables, seen, ctx, {})[0])

    mesh = parallel.make_mesh(jax.local_devices()) if jax.local_device_count() > 1 else None
    compiled = jax.jit(run)
    before = None
    for batch in batches:
        rows = len(next(iter(batch.values())))
        placed = dict(batch) if mesh is None or rows % mesh.size else parallel.place(batch, mesh)
        now = batch, compiled(variables, placed)
        if before is not None:
            yield before[0], jax.device_get(before[1])
        before = now
    if before is not None:
        yield before[0], jax.device_get(before[1])


def recorded(
    part: Part,
    name: str,
    root: pathlib.Path,
    teacher: Mapping[str, Any],
    variables: Callable[[], Any],
    *,
    say: Callable[[str], None] = print,
    begin: Callable[[int], None] = lambda batches: None,
    note: Callable[[int], None] = lambda batch: None,
    heed: Callable[[], None] = lambda: None,
) -> tuple[dict[str, np.ndarray], str]:
    """The records of a cached model, from disk where they are whole, else computed and written first.

    Args:
        part: whose field `cache` names the model.
        name: of the model.
        root: of all caches; the records lie in a folder of it, for this teacher, these rows and these outputs.
        teacher: what identifies the variables: part, model, seed, hash.
        variables: reads them; only called where something is to be computed.
        say: called with what a person should know.
        begin: called with the number of batches, before the first.
        note: called with the number of batches that are done.
        heed: called after each batch; may raise, and the next call goes on from there.

    Returns:
        name -> [slots, rows, …], mapped from disk; and what identifies them.

    Raises:
        UserError: the folder holds records of something else, or damaged ones; a full disk.
    """
    kept, data = part.kept[name], part.data
    which = hashlib.sha256(json.dumps([dict(data.dataset.fingerprint), kept.outputs], sort_keys=True).encode())
    folder = root / f"{teacher['part']}.{teacher['model']}-{teacher['seed']}-{which.hexdigest()[:8]}"
    store = part.store(name, teacher, folder)
    if not store.checked():
        each = -(-data.size // data.batch_size)
        total = f"{data.size:,} rows, {store.slots} slot{'s' if store.slots > 1 else ''}: {readable(store.size)}"
        say(f"computing what {name!r} says of {total} in {folder}")
        begin(store.slots * each)
        own = variables()

        def work(first: int, step: int) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
            places = (divmod(number, each) for number in range(first, store.slots * each, step))
            inputs = (at_slot(data, slot, batch) for slot, batch in places)
            for batch, out in answers(part.models[name], own, inputs, kept.pack, jax.random.key(0), part.augment):
                valid, slot = batch["valid"], int(batch["slot"][0])
                rows = batch["row"][valid] + slot * data.size
                yield rows, {f"{name}.{k}": np.asarray(x)[valid] for k, x in out.items()}

        store.build(work, store.slots * each, heed, note)
    digest = hashlib.sha256(json.dumps(store.manifest, sort_keys=True).encode()).hexdigest()
    return store.arrays(), digest[:16]
