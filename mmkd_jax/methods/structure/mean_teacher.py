"""Mean teacher: consistency with an exponential moving average of the student."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from mmkd_jax.core.objective import Objective, term
from mmkd_jax.errors import UserError
from mmkd_jax.losses.logits.probability_mse import probability_mse
from mmkd_jax.typing import Scalar
from mmkd_jax.validation import validated


@validated
def mean_teacher(
    *,
    student: str = "student.logits",
    teacher: str = "teacher.logits",
    loss: Callable = probability_mse,
    weight: Scalar | Callable = 1.0,
    ramp: int = 0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Mean teacher: consistency with an exponential moving average (EMA) of the student, also on unlabeled rows.

    Formula: w(t) D(p_ema, p), D the mean square over classes, w(t) = w exp(−5 (1 − min(t / r, 1))²);
        θ_ema ← d θ_ema + (1 − d) θ after each step

    The average is a model of the training: `"teacher": mmkd.MovingAverage(of="student", decay=0.999)`. Noise makes the
    two differ: dropout, or `mmkd.with_input` around one of them.

    Args:
        student: path of the student's logits [b, c].
        teacher: path of the moving average's logits [b, c]; it runs with train=False.
        loss: D, a loss between two logits, such as `losses.kl`.
        weight: w, a number; or a custom schedule, with ramp=0.
        ramp: r, the steps over which the weight rises from w / e⁵ to w; 0 uses w from the first step on.
        where: batch mask(s) of the rows that count.

    Returns:
        A parameter-free objective. A ramped weight is a schedule, so the command line cannot set it.

    Raises:
        UserError: a ramp together with a schedule, or a negative ramp.

    Topic: structure
    Compares: logits of a student and of its moving average
    Extra: a moving average of the student, and one pass of it
    Source: Tarvainen and Valpola, Mean Teachers Are Better Role Models, 2017, https://arxiv.org/abs/1703.01780
    Differs: the paper's teacher also has noise, and follows faster at first: its decay is min(1 − 1 / (t + 1), d)

    Example:
        >>> steady = mean_teacher(weight=10.0, ramp=1_000)
    """
    if ramp < 0 or (ramp and callable(weight)):
        reason = "the weight is already a schedule" if callable(weight) else "expected 0 or more steps"
        raise UserError(f"mean_teacher: ramp is {ramp}; {reason}")
    return term(loss, student=student, teacher=teacher, weight=_ramped(weight, ramp) if ramp else weight, where=where)


def _ramped(full: Any, ramp: int) -> Callable:
    return lambda step: full * jnp.exp(-5 * (1 - jnp.minimum(step / ramp, 1)) ** 2)
