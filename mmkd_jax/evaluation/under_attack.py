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

_ROBUST, _SUCCESS = "robust accuracy", "attack success"
_WHOLE_ROWS = ("single_label_classification", "ordinal")
"""Problems whose accuracy counts each row as right or wrong."""


def robustness(
    model: Model, task: Task, at: str, attack: PGD | Callable[[Callable, jax.Array], jax.Array]
) -> Callable[[Any, Iterable[Batch]], dict[str, np.ndarray]]:
    """Return a function that computes a model's metrics under attack, compiled once for all variables.

    White-box: the attack uses the model and the labels to maximize the task's own loss. It need not find the worst
    input: the true robust accuracy is at most the one returned. More steps tighten this bound.

    Formula: robust accuracy = rows that are right before and under attack / all rows; attack success = fooled /
    (fooled + failed), of the rows that were right before

    All scores of the task are those of attacked inputs. A classification and an ordinal task also have "robust
    accuracy", in which a row that was wrong before counts as wrong even if the attack makes it right; and "attack
    success", which leaves such rows out, NaN if all were wrong.

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

    Source: Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, 2018,
        https://arxiv.org/abs/1706.06083; Morris et al., TextAttack, 2020, https://arxiv.org/abs/2005.05909 (skipped,
        fooled and failed rows)

    Example:
        >>> from mmkd_jax.adversarial import FGSM
        >>> from mmkd_jax.tasks import classification
        >>> from mmkd_jax.core.model import plain
        >>> sign = plain(lambda params, batch: {"logits": jnp.stack([-batch["x"], batch["x"]], -1)})
        >>> batch = {"x": jnp.array([-0.5, 0.1, 0.5]), "label": jnp.array([0, 1, 1])}
        >>> evaluate = robustness(sign, classification(2), "x", FGSM(eps=0.2, low=None, high=None))
        >>> scores = evaluate({"params": {}}, [batch])
        >>> [round(float(scores[k]), 2) for k in ("accuracy", "robust accuracy", "attack success")]
        [0.67, 0.67, 0.33]
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

        clean = predict(model, variables, batch)
        x = attackable(batch, clean, at, "the model")
        maximize = attack.unbounded() if isinstance(attack, PGD) and at not in batch else attack
        attacked = predict(model, variables, *shown(batch, at, maximize(loss, x)))
        metrics, broken, rows = tasks.measure(task, attacked, batch)
        if task.problem in _WHOLE_ROWS:
            metrics |= _of_rows(task, clean, attacked, batch)
        return metrics, broken, rows

    def scores(means):
        own = {k: np.asarray(means[k]) for k in (_ROBUST, _SUCCESS) if k in means}
        return {**task.scores({k: x for k, x in means.items() if k not in own}), **own}

    whole = task._replace(scores=scores)
    return lambda variables, batches: evaluate(whole, measure, variables, batches, "the attacked data")


def _of_rows(task, clean, attacked, batch):
    """Return (sum, count) of the metrics that compare a row before and under attack."""
    rows = len(next(iter(batch.values())))
    valid = batch.get("valid", jnp.ones(rows, bool))

    def right(outputs):
        """Which rows are right: the accuracy of each row alone."""
        alone = jax.vmap(lambda here: task.metrics(outputs, {**batch, "valid": here})["accuracy"][0])
        return alone(jnp.eye(rows, dtype=bool) & valid[None]) > 0

    def count(x):
        return jnp.sum(x.astype(jnp.float32))

    before, after = right(clean), right(attacked)
    return {_ROBUST: (count(before & after), count(valid)), _SUCCESS: (count(before & ~after), count(before))}
