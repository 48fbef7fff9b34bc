"""Softmax regression representation learning (SRRL)."""

from collections.abc import Callable

import jax

from mmkd_jax.core.objective import Objective, filled, mask_of, term
from mmkd_jax.core.outputs import output_of
from mmkd_jax.losses.features.srrl import srrl as regression
from mmkd_jax.methods._module import apply_module, init_module
from mmkd_jax.nn.connectors import Linear
from mmkd_jax.typing import NotNegative, Scalar
from mmkd_jax.validation import validated


@validated
def srrl(
    *,
    student: str = "student.embedding",
    teacher: str = "teacher.embedding",
    output: str = "logits",
    alpha: NotNegative = 1.0,
    beta: NotNegative = 1.0,
    weight: Scalar | Callable = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Softmax regression representation learning (SRRL): match features, and the teacher head's logits on them.

    Formula: α mean(z − f)² + β mean(h(z) − h(f))², z = ReLU(BN(W s)), h the frozen teacher from its embedding on

    The teacher's head is reused by patching: the teacher runs with f replaced by z.

    Args:
        student: path of the student's embedding s, [b, d].
        teacher: path of the teacher's embedding f, [b, e]; must be the only path to its output.
        output: name of the teacher's logits.
        alpha: α, weight of the feature term.
        beta: β, weight of the logit term.
        weight: loss weight, a number or a schedule.
        where: batch mask(s) of the rows that count.

    Returns:
        An objective with a connector as parameters; it runs the teacher once more, computing only the head.

    Topic: features
    Compares: features and logits
    Extra: trains a connector; keeps its BatchNorm statistics
    Source: Yang et al., Softmax Regression Representation Learning, 2021, https://openreview.net/forum?id=ZzwDy_wiWv

    Example:
        >>> head = srrl(beta=0.5)
    """
    model, _, name = teacher.partition(".")
    sides = {"student": ("reused.features", "reused.logits"), "teacher": (teacher, f"{model}.{output}")}
    loss = term(regression, **sides, alpha=alpha, beta=beta, weight=weight, where=where)

    def connector(outputs):
        return Linear(outputs[teacher].shape[-1], batch_norm=True)

    def init(outputs):
        params, state = init_module(connector(outputs), outputs.ctx, outputs[student])
        return params, loss.init(outputs)[1] | {"state": state}

    def apply(params, objective_state, outputs):
        ctx = outputs.ctx._replace(where=mask_of(outputs, where))
        z, state = apply_module(
            connector(outputs), params, objective_state["state"], ctx, filled(outputs, student, where)
        )
        z = jax.nn.relu(z)
        logits = output_of(outputs.run[model](outputs.batch, patch={name: z}, train=False), output, model)
        reused = outputs.add(reused={"features": z, "logits": logits})
        out, objective_state = loss.apply({}, objective_state | {"state": {}}, reused)
        return out, objective_state | {"state": state}

    return Objective(init, apply)
