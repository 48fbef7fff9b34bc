"""Population training: whole training runs as pure functions, and many of them in one compiled program."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmkd_jax.core import sharding
from mmkd_jax.core.model import Batch, Model, predict
from mmkd_jax.core.state import Distillation, completed, init_state, variables
from mmkd_jax.core.step import make_step
from mmkd_jax.errors import UserError
from mmkd_jax.numeric import top_class


def train(
    distillation: Distillation,
    batch: Callable[[Any], Batch],
    steps: int,
    key: jax.Array,
    initial_variables: Mapping[str, Any] | None = None,
    hyperparams: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Run a whole training, from initialization to the final variables; pure, for jit, vmap and `members`.

    Args:
        distillation: models, objective and optimizer.
        batch: pure function `(step) -> batch`; `lambda step: rows` is full-batch training.
        steps: number of updates.
        key: random key for initialization and all later randomness.
        initial_variables: name -> variables for models that are not initialized at random.
        hyperparams: dotted name -> value, for hyperparameters of the objective.

    Returns:
        name -> variables of every model; those of trained models are NaN if the loss was not finite in some step.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from mmkd_jax import losses
        >>> from mmkd_jax.core.objective import term
        >>> from mmkd_jax.core.model import plain
        >>> line = plain(lambda w, batch: {"logits": batch["x"] @ w["w"]}, lambda key, batch: {"w": jnp.zeros((1, 2))})
        >>> rows = {"x": jnp.array([[-1.0], [1.0]]), "label": jnp.array([0, 1]), "example_id": jnp.arange(2)}
        >>> task = term(losses.cross_entropy, logits="student.logits", labels="batch.label")
        >>> simple = Distillation({"student": line}, task, optax.sgd(1.0))
        >>> after = train(simple, lambda step: rows, 10, jax.random.key(0))
        >>> bool(after["student"]["params"]["w"][0, 1] > 1)
        True
    """
    step = make_step(distillation)
    spec = jax.eval_shape(batch, jax.ShapeDtypeStruct((), np.int32))
    state, frozen = init_state(distillation, spec, key, initial_variables, hyperparams)

    def one(i, carry):
        state, finite = carry
        state, metrics = step(state, frozen, batch(state.step))
        return state, finite & jnp.isfinite(metrics["loss"])

    def voided(x):
        return jnp.where(finite, x, jnp.nan) if jnp.issubdtype(x.dtype, jnp.floating) else x

    state, finite = jax.lax.fori_loop(0, steps, one, (state, jnp.bool_(True)))
    return completed(jax.tree.map(voided, variables(state, {})), frozen)


def accuracy(model: Model, variables: Any, batch: Batch) -> Float[Array, ""]:
    """Top-1 accuracy, in percent; NaN if a row's logits are NaN.

    Example:
        >>> rows = {"x": np.eye(4, dtype=np.float32), "label": np.array([0, 1, 2, 0])}
        >>> from mmkd_jax.core.model import plain
        >>> accuracy(plain(lambda _, batch: {"logits": batch["x"]}), {"params": {}}, rows).item()
        75.0
    """
    classes = top_class(predict(model, variables, batch)["logits"])
    return jnp.where(jnp.all(classes >= 0), 100 * jnp.mean(classes == batch["label"]), jnp.nan)


def members(member: Callable[..., Any], width: int = 1) -> Callable[..., Any]:
    """Map a function over population members in one compiled program, sharded over all devices.

    A member is a pure function, such as all training runs and scores of one seed. With width=1 each device runs one
    member after the other, which is fast on a CPU; accelerators need a larger width.

    Args:
        member: `(shared, *own) -> tree of arrays`.
        width: number of members that a device runs at the same time.

    Returns:
        `run(shared, *own) -> tree of arrays`; `own` and the result have a leading axis of members.

    Example:
        >>> run = members(lambda shared, seed: shared * seed)
        >>> run(np.float32(2), np.arange(3.0, dtype=np.float32))
        Array([0., 2., 4.], dtype=float32)
    """

    def on_device(shared, own):
        return jax.lax.map(lambda args: member(shared, *args), own, batch_size=None if width == 1 else width)

    sharded, devices = sharding.shard_over_devices(on_device)

    def run(shared, *own):
        if not (count := len(jax.tree.leaves(own)[0])):
            raise UserError("there are no members: give each argument one row per member")
        missing = -count % devices

        def padded(x):  # repeats the last member, to divide evenly over the devices
            return np.concatenate([x, np.repeat(x[-1:], missing, 0)])

        return jax.tree.map(lambda x: x[:count], sharded(shared, jax.tree.map(padded, own)))

    return run
