"""Mean teacher: a student that agrees with the moving average of itself."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from mmkd_jax.arguments import held
from mmkd_jax.errors import UserError
from mmkd_jax.losses.logits.probability_mse import probability_mse
from mmkd_jax.losses.number import Number
from mmkd_jax.objective import Objective, term


@held
def mean_teacher(
    *,
    student: str = "student.logits",
    teacher: str = "teacher.logits",
    loss: Callable = probability_mse,
    weight: Number | Callable = 1.0,
    ramp: int = 0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Agree with the moving average of the own variables, also on rows that nobody labelled.

    Formula: w(t) D(p_ema, p), D the mean square over classes, w(t) = w exp(−5 (1 − min(t / r, 1))²);
        θ_ema ← d θ_ema + (1 − d) θ after each step

    The average is a model of the part, of the student's architecture: `ema={"teacher": ("student", 0.999)}`. Noise
    makes the two differ: dropout, or `views.with_input` for one of them.

    Args:
        student: path of the student's logits [b, c].
        teacher: path of the average's logits [b, c]; it runs with train=False.
        loss: D of two logits, such as `losses.kl`.
        weight: w, a number; or another schedule, which goes without a ramp.
        ramp: r, the steps in which the weight goes up, from w / e⁵; 0 is w from the first step on.
        where: mask(s) of the batch.

    Returns:
        An objective without parameters. A ramped weight is a schedule, which the command line does not set.

    Raises:
        UserError: a ramp of a schedule, or one that goes backwards.

    Topic: structure
    Compares: logits of a student and of its moving average
    Extra: a moving average of the student, one pass of it
    Source: Tarvainen and Valpola, Mean Teachers Are Better Role Models, 2017, https://arxiv.org/abs/1703.01780
    Differs: the paper's teacher has noise, too, and follows faster at first: its decay is min(1 − 1 / (t + 1), d)

    Example:
        >>> steady = mean_teacher(weight=10.0, ramp=1_000)
    """
    if ramp < 0 or (ramp and callable(weight)):
        wrong = "the weight is a schedule already" if callable(weight) else "expected 0 or more steps"
        raise UserError(f"mean_teacher: ramp is {ramp}; {wrong}")
    return term(loss, student=student, teacher=teacher, weight=_ramped(weight, ramp) if ramp else weight, where=where)


def _ramped(full: Any, ramp: int) -> Callable:
    return lambda step: full * jnp.exp(-5 * (1 - jnp.minimum(step / ramp, 1)) ** 2)
