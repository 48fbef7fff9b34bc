"""Robust soft label adversarial distillation: the student follows the clean teacher under attack."""

from typing import Literal

import jax

from mmkd_jax.arguments import held
from mmkd_jax.losses.logits.kl import kl
from mmkd_jax.losses.number import Count, NotNegative, Share
from mmkd_jax.methods.attacked import under_attack
from mmkd_jax.objective import Objective, combine, term
from mmkd_jax.views import output_of


@held
def rslad(
    at: str,
    *,
    eps: NotNegative = 8 / 255,
    step_size: NotNegative = 2 / 255,
    steps: Count = 10,
    norm: Literal["linf", "l2"] = "linf",
    alpha: Share = 5 / 6,
    student: str = "student",
    teacher: str = "teacher",
    output: str = "logits",
    low: float | None = 0.0,
    high: float | None = 1.0,
    mask: str | None = None,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Pull the student to the frozen teacher's clean answers, on clean inputs and on those an inner attack finds.

    Formula: (1 − α) KL(T(x) ‖ S(x)) + α KL(T(x) ‖ S(x')), x' = argmax over ‖x' − x‖∞ ≤ ε of KL(T(x) ‖ S(x')).

    Args:
        at: name of the attacked input, whose uint8 is read as [0, 1]; or of an output of the student, such as
            "hidden.text.0", the embedded tokens.
        eps: radius of the attack, in units of the input.
        step_size: of the attack, in units of the input.
        steps: of the attack.
        norm: of the ball.
        alpha: share of the attacked term; the terms' weights `clean.weight` and `attacked.weight` start from it.
        student: name of the trained model.
        teacher: name of the frozen model.
        output: name of the logits.
        low: smallest input value; None is unbounded.
        high: largest input value; None is unbounded.
        mask: name of a mask of the batch, such as "text.mask": what stands outside is not attacked.
        where: mask(s) of the batch.

    Returns:
        An objective without parameters; it runs the student `steps + 1` times more, in the attack with train=False.

    Topic: adversarial
    Compares: logits on clean and attacked inputs
    Extra: steps + 1 further passes of the student
    Source: Zi et al., Revisiting Adversarial Robustness Distillation, 2021, https://arxiv.org/abs/2108.07969
    Differs: the authors' code takes PyTorch's mean over classes, too: both terms are smaller by their number

    Example:
        >>> robust = rslad("image", eps=4 / 255, steps=3)
    """
    soft = f"{teacher}.{output}"
    terms = combine(
        clean=term(kl, student=f"{student}.{output}", teacher=soft, weight=1 - alpha, where=where),
        attacked=term(kl, student=f"attacked.{output}", teacher=soft, weight=alpha, where=where),
    )

    def apart(views, attacked, _):
        return kl(output_of(attacked, output, student), jax.lax.stop_gradient(views[soft]))

    return under_attack(
        terms,
        apart,
        at,
        eps=eps,
        step_size=step_size,
        steps=steps,
        norm=norm,
        low=low,
        high=high,
        mask=mask,
        start="normal",
        student=student,
    )
