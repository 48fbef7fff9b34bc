"""Mean teacher: a student that agrees with the moving average of itself."""

from collections.abc import Callable

from mmkd_jax.losses.logits.probability_mse import probability_mse
from mmkd_jax.losses.number import Number
from mmkd_jax.objective import Objective, term


def mean_teacher(
    *,
    student: str = "student.logits",
    teacher: str = "teacher.logits",
    loss: Callable = probability_mse,
    weight: Number | Callable = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Agree with the moving average of the own variables, also on rows that nobody labelled.

    Formula: w(t) D(p_ema, p), D the mean square over classes; θ_ema ← d θ_ema + (1 − d) θ after each step

    The average is a model of the part, of the student's architecture: `ema={"teacher": ("student", 0.999)}`. Noise
    makes the two differ: dropout, or `views.with_input` for one of them.

    Args:
        student: path of the student's logits [b, c].
        teacher: path of the average's logits [b, c]; it runs with train=False.
        loss: D of two logits, such as `losses.kl`.
        weight: w; the paper ramps it up from 0, which is a schedule such as `optax.linear_schedule(0.0, 1.0, 1_000)`.
        where: mask(s) of the batch.

    Returns:
        An objective without parameters.

    Topic: structure
    Compares: logits of a student and of its moving average
    Extra: a moving average of the student, one pass of it
    Source: Tarvainen and Valpola, Mean Teachers Are Better Role Models, 2017, https://arxiv.org/abs/1703.01780
    Differs: the paper's ramp is exp(−5 (1 − t)²), its teacher has noise, too

    Example:
        >>> import optax
        >>> steady = mean_teacher(weight=optax.linear_schedule(0.0, 1.0, 1_000))
    """
    return term(loss, student=student, teacher=teacher, weight=weight, where=where)
