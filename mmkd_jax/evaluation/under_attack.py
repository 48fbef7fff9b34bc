"""Adversarial robustness: task metrics of a model on attacked inputs."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax import tasks
from mmkd_jax.adversarial.attack_values import PGD
from mmkd_jax.adversarial.inner_attack import attackable, shown
from mmkd_jax.core.model import Batch, Model, StepContext, predict
from mmkd_jax.core.objective import Term
from mmkd_jax.core.outputs import Outputs
from mmkd_jax.core.task import Task
from mmkd_jax.training.scores import evaluate


def robustness(
    model: Model, task: Task, at: str, attack: PGD | Callable[[Callable, jax.Array], jax.Array]
) -> Callable[[Any, Iterable[Batch]], dict[str, np.ndarray]]:
    """Return a function that computes a model's metrics under attack, compiled once for all variables.

    White-box: the attack uses the model and the labels to maximize the task's own loss. It need not find the worst
    input: the true robust accuracy is at most the one returned. More steps tighten this bound.

    Args:
        model: attacked model, run with train=False.
        task: provides the metrics to compute and the loss to maximize.
        at: name of an input (uint8 is scaled to [0, 1]), or else of a model output, such as
            "hidden.text.0", the embedded tokens.
        attack: a PGD or FGSM value, whose bounds apply to inputs, not to outputs; or a function `(function, x) -> x'`,
            which maximizes the function of x, here the sum of the rows' losses.

    Returns:
        `(variables, batches) -> {name: score over the rows}`; rows with `valid` False are excluded. Raises a UserError
        for rows whose attacked outputs are not finite.

    Example:
        >>> from mmkd_jax.adversarial import FGSM
        >>> from mmkd_jax.tasks import classification
        >>> from mmkd_jax.core.model import plain
        >>> sign = plain(lambda params, batch: {"logits": jnp.stack([-batch["x"], batch["x"]], -1)})
        >>> batch = {"x": jnp.array([-0.5, 0.1, 0.5]), "label": jnp.array([0, 1, 1])}
        >>> evaluate = robustness(sign, classification(2), "x", FGSM(eps=0.2, low=None, high=None))
        >>> round(float(evaluate({"params": {}}, [batch])["accuracy"]), 2)
        0.67
    """
    objective = task.objective("model")
    ctx = StepContext(jnp.int32(0), jax.random.key(0), train=False)

    @jax.jit
    def measure(variables, batch):
        batch = {k: jnp.asarray(x) for k, x in batch.items()}

        def loss(x) -> Any:
            outputs = Outputs(batch, {"model": predict(model, variables, *shown(batch, at, x))}, {}, ctx)
            terms, _ = objective.apply(*objective.init(outputs), outputs)
            return sum(jnp.sum(t.values) for t in jax.tree.leaves(terms, is_leaf=lambda t: isinstance(t, Term)))

        x = attackable(batch, predict(model, variables, batch), at, "the model")
        maximize = attack.unbounded() if isinstance(attack, PGD) and at not in batch else attack
        return tasks.measure(task, predict(model, variables, *shown(batch, at, maximize(loss, x))), batch)

    return lambda variables, batches: evaluate(task, measure, variables, batches, "the attacked data")
