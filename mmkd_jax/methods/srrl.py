"""Softmax regression representation learning: the teacher's own head judges the student's features."""

from collections.abc import Callable

import jax

from mmkd_jax.arguments import held
from mmkd_jax.connectors import Linear
from mmkd_jax.losses.features.srrl import srrl as regression
from mmkd_jax.losses.number import NotNegative, Number
from mmkd_jax.methods import learned
from mmkd_jax.objective import Objective, mask_of, term
from mmkd_jax.views import output_of


@held
def srrl(
    *,
    student: str = "student.embedding",
    teacher: str = "teacher.embedding",
    output: str = "logits",
    alpha: NotNegative = 1.0,
    beta: NotNegative = 1.0,
    weight: Number | Callable = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Softmax regression representation learning (SRRL): features that the teacher's head answers to as to its own.

    Formula: α mean(z − f)² + β mean(h(z) − h(f))², z = ReLU(BN(W s)), h the frozen teacher from its embedding on

    The head is reused by patching: the teacher is run with z in the place of f.

    Args:
        student: path of the student's embedding s, [b, d].
        teacher: path of the teacher's embedding f, [b, e]: the only way to its output.
        output: name of the teacher's logits.
        alpha: α, of the features.
        beta: β, of the logits.
        weight: of the term, a number or a schedule.
        where: mask(s) of the batch.

    Returns:
        An objective; it runs the teacher once more, of which only the head is computed.

    Topic: features
    Compares: features and logits
    Extra: trains a connector; remembers its BatchNorm statistics
    Source: Yang et al., Softmax Regression Representation Learning, 2021, https://openreview.net/forum?id=ZzwDy_wiWv

    Example:
        >>> head = srrl(beta=0.5)
    """
    model, _, name = teacher.partition(".")
    sides = {"student": ("reused.features", "reused.logits"), "teacher": (teacher, f"{model}.{output}")}
    loss = term(regression, **sides, alpha=alpha, beta=beta, weight=weight, where=where)

    def connector(views):
        return Linear(views[teacher].shape[-1], batch_norm=True)

    def init(views):
        params, state = learned.begin(connector(views), views.ctx, views[student])
        return params, loss.init(views)[1] | {"state": state}

    def apply(params, memory, views):
        ctx = views.ctx._replace(where=mask_of(views, where))
        z, state = learned.run(connector(views), params, memory["state"], ctx, views[student])
        z = jax.nn.relu(z)
        logits = output_of(views.run[model](views.batch, patch={name: z}, train=False), output, model)
        reused = views.add(reused={"features": z, "logits": logits})
        found, memory = loss.apply({}, memory | {"state": {}}, reused)
        return found, memory | {"state": state}

    return Objective(init, apply)
