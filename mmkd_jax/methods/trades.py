"""TRADES: labels on clean inputs, and answers that an attack does not move."""

from typing import Literal

import jax

from mmkd_jax import losses
from mmkd_jax.arguments import held
from mmkd_jax.losses.number import Count, NotNegative
from mmkd_jax.methods.attacked import under_attack
from mmkd_jax.objective import Objective, combine, term
from mmkd_jax.views import output_of


@held
def trades(
    at: str,
    *,
    eps: NotNegative = 8 / 255,
    step_size: NotNegative = 2 / 255,
    steps: Count = 10,
    norm: Literal["linf", "l2"] = "linf",
    beta: NotNegative = 6.0,
    student: str = "student",
    output: str = "logits",
    labels: str = "batch.label",
    low: float | None = 0.0,
    high: float | None = 1.0,
    mask: str | None = None,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Learn from labels, and answer alike where an attack moves the answer most; there is no teacher.

    Formula: CE(S(x), y) + β KL(S(x) ‖ S(x')), x' = argmax over ‖x' − x‖ ≤ ε of KL(S(x) ‖ S(x'))

    Args:
        at: name of the attacked input, whose uint8 is read as [0, 1]; or of an output of the student, such as
            "hidden.text.0", the embedded tokens.
        eps: radius of the attack, in units of the input.
        step_size: of the attack, in units of the input.
        steps: of the attack.
        norm: of the ball.
        beta: weight of the second term.
        student: name of the trained model.
        output: name of the logits.
        labels: path of the labels.
        low: smallest input value; None is unbounded.
        high: largest input value; None is unbounded.
        mask: name of a mask of the batch, such as "text.mask": what stands outside is not attacked.
        where: mask(s) of the batch of the first term; the second needs no label.

    Returns:
        An objective without parameters; it runs the student `steps + 2` times more, in the attack with train=False.
        Both sides of the second term get a gradient.

    Topic: adversarial
    Compares: logits on clean and attacked inputs; labels
    Extra: steps + 2 further passes of the student
    Source: Zhang et al., Theoretically Principled Trade-off between Robustness and Accuracy, 2019,
        https://arxiv.org/abs/1901.08573

    Example:
        >>> robust = trades("image", eps=4 / 255, steps=3, where="labelled")
    """
    clean = f"{student}.{output}"

    def moved(attacked, clean):
        return losses.kl(attacked, clean)

    terms = combine(
        task=term(losses.cross_entropy, logits=clean, labels=labels, where=where),
        stable=term(moved, attacked=f"attacked.{output}", clean=clean, weight=beta),
    )

    def apart(views, attacked, _):
        calm = views.run[student](views.batch, train=False)  # both sides as in use; taken out of the loop
        still = output_of(calm, output, student)
        return losses.kl(output_of(attacked, output, student), jax.lax.stop_gradient(still))

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
