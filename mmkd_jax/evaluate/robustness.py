"""How well a model does under attack: its task's metrics on the inputs that an attack has found."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax.methods.attacked import attackable, shown
from mmkd_jax.programs import averaged
from mmkd_jax.tasks import Task
from mmkd_jax.views import Batch, Context, Model, Views


def robustness(
    model: Model, task: Task, at: str, attack: Callable[[Callable, jax.Array], jax.Array]
) -> Callable[[Any, Iterable[Batch]], dict[str, np.ndarray]]:
    """Metrics of a model under attack. Compiled once, for all variables that the function is given.

    The attack sees model and labels (a white box) and makes the task's own loss large. It finds *an* input on which the
    model fails, not every one: robust accuracy is at most what this says. More steps bring it closer.

    Args:
        model: whose predictions are attacked, run with train=False.
        task: its metrics are measured, its loss is attacked.
        at: name of an input, whose uint8 is read as [0, 1], or else of an output of the model, such as
            "hidden.text.0", the embedded tokens.
        attack: `(function, x) -> x'`, as in `attacks`: makes the function of x large, the sum of the rows' losses.

    Returns:
        `(variables, batches) -> {name: mean over the rows}`; rows with `valid` False do not count.

    Example:
        >>> from functools import partial
        >>> from mmkd_jax import attacks
        >>> from mmkd_jax.tasks import classification
        >>> from mmkd_jax.views import plain
        >>> sign = plain(lambda params, batch: {"logits": jnp.stack([-batch["x"], batch["x"]], -1)})
        >>> batch = {"x": jnp.array([-0.5, 0.1, 0.5]), "label": jnp.array([0, 1, 1])}
        >>> look = robustness(sign, classification(2), "x", partial(attacks.fgsm, eps=0.2))
        >>> round(float(look({"params": {}}, [batch])["accuracy"]), 2)
        0.67
    """
    objective = task.objective("model")
    ctx = Context(jnp.int32(0), jax.random.key(0), train=False)

    @jax.jit
    def measure(variables, batch):
        batch = {k: jnp.asarray(x) for k, x in batch.items()}

        def run(batch, patch):
            return model.apply(variables, batch, ctx.at("model")._replace(where=batch.get("valid")), patch)[0]

        def loss(x):
            views = Views(batch, {"model": run(*shown(batch, at, x))}, {}, ctx)
            terms, _ = objective.apply(*objective.init(views), views)
            return sum(jnp.sum(t.values) for t in jax.tree.leaves(terms, is_leaf=lambda t: hasattr(t, "values")))

        x = attackable(batch, run(batch, {}), at, "the model")
        return task.metrics(run(*shown(batch, at, attack(loss, x))), batch)

    return lambda variables, batches: task.scores(averaged(measure, variables, batches))
