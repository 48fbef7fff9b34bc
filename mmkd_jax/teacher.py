"""Teachers: several as one, and their outputs computed once."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax.errors import UserError, choices
from mmkd_jax.views import Batch, Context, Model


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
    model: Model,
    variables: Any,
    batches: Iterable[Batch],
    names: Iterable[str],
    key: jax.Array,
    heed: Callable[[], None] = lambda: None,
) -> dict[str, np.ndarray]:
    """A frozen model's outputs on every row, once: what `views.cached` then gives in the model's place.

    Args:
        model: the teacher.
        variables: its variables.
        batches: each row once and in order; rows with `valid` False are padding and left out.
        names: the outputs to keep.
        key: for models that draw; a frozen model runs with train=False.
        heed: called after each batch; may raise.

    Returns:
        name -> [rows, …].

    Raises:
        UserError: the model has no such output.
    """
    names = tuple(names)

    @jax.jit
    def run(variables, batch):
        outputs, _ = model.apply(variables, batch, Context(jnp.int32(0), key, train=False), {})
        if unknown := set(names) - set(outputs):
            raise UserError(f"the teacher has no output {choices(unknown)}; it has: {choices(outputs)}")
        return {n: outputs[n] for n in names}

    parts = []
    for batch in batches:
        out = jax.device_get(run(variables, batch))
        valid = np.asarray(batch["valid"]) if "valid" in batch else slice(None)
        parts.append({n: x[valid] for n, x in out.items()})
        heed()
    return {n: np.concatenate([p[n] for p in parts]) for n in names}
