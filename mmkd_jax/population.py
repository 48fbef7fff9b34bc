"""Whole trainings as pure functions, and many of them in one compiled program."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmkd_jax import parallel
from mmkd_jax.state import Distillation, start, variables
from mmkd_jax.step import make_step
from mmkd_jax.views import Batch, Context, Model, Outputs


def train(
    distillation: Distillation,
    batch: Callable[[Any], Batch],
    steps: int,
    key: jax.Array,
    given: Mapping[str, Any] | None = None,
    numbers: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A whole training, from the first variables to the last: pure, for jit, vmap and `members`.

    Args:
        distillation: who learns from what.
        batch: `(step) -> batch`, pure; `lambda step: rows` trains on all of them in each step.
        steps: updates.
        key: of the first variables and all randomness.
        given: name -> variables of models that do not start at random.
        numbers: of the objective.

    Returns:
        name -> variables of every model.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from mmkd_jax import losses
        >>> from mmkd_jax.objective import term
        >>> from mmkd_jax.views import plain
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
    state, frozen = start(distillation, spec, key, given, numbers)

    def one(i, state):
        return step(state, frozen, batch(state.step))[0]

    return variables(jax.lax.fori_loop(0, steps, one, state), frozen)


def answer(model: Model, variables: Any, batch: Batch) -> Outputs:
    """A model's outputs on rows, as when it is measured: nothing is drawn, nothing moves.

    Example:
        >>> from mmkd_jax.views import plain
        >>> twice = plain(lambda _, batch: {"y": 2 * batch["x"]})
        >>> answer(twice, {"params": {}}, {"x": np.float32(3)})["y"].item()
        6.0
    """
    return model.apply(variables, batch, Context(np.int32(0), jax.random.key(0), train=False), {})[0]


def accuracy(model: Model, variables: Any, batch: Batch) -> Float[Array, ""]:
    """Per cent of rows whose largest logit is their label's.

    Example:
        >>> rows = {"x": np.eye(4, dtype=np.float32), "label": np.array([0, 1, 2, 0])}
        >>> from mmkd_jax.views import plain
        >>> accuracy(plain(lambda _, batch: {"logits": batch["x"]}), {"params": {}}, rows).item()
        75.0
    """
    return 100 * jnp.mean(jnp.argmax(answer(model, variables, batch)["logits"], -1) == batch["label"])


def members(member: Callable[..., Any], width: int = 1) -> Callable[..., Any]:
    """Many members in one compiled program, shared out over all devices.

    A member is a pure function, such as all trainings and scores of one seed. Narrow populations run one member after
    the other on each device, which is what a CPU likes; an accelerator likes them wide.

    Args:
        member: `(shared, *own) -> tree of arrays`.
        width: how many members a device works on at the same time.

    Returns:
        `run(shared, *own)`, own with a leading axis of members, and so what comes out.

    Example:
        >>> run = members(lambda shared, seed: shared * seed)
        >>> run(np.float32(2), np.arange(3.0, dtype=np.float32))
        Array([0., 2., 4.], dtype=float32)
    """

    def here(shared, own):
        return jax.lax.map(lambda mine: member(shared, *mine), own, batch_size=None if width == 1 else width)

    spread, devices = parallel.shared_out(here)

    def run(shared, *own):
        count = len(jax.tree.leaves(own)[0])
        missing = -count % devices

        def filled(x):  # the last member again, where a device has none
            return np.concatenate([x, np.repeat(x[-1:], missing, 0)])

        return jax.tree.map(lambda x: x[:count], spread(shared, jax.tree.map(filled, own)))

    return run
