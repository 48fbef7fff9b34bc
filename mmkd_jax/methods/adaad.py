"""Adaptive adversarial distillation: the attack looks for where student and teacher disagree."""

from typing import Literal

from mmkd_jax import losses
from mmkd_jax.arguments import held
from mmkd_jax.losses.number import Count, NotNegative, Share
from mmkd_jax.methods.attacked import under_attack
from mmkd_jax.objective import Objective, combine, term
from mmkd_jax.views import output_of


@held
def adaad(
    at: str,
    *,
    eps: NotNegative = 8 / 255,
    step_size: NotNegative = 2 / 255,
    steps: Count = 10,
    norm: Literal["linf", "l2"] = "linf",
    alpha: Share = 1.0,
    student: str = "student",
    teacher: str = "teacher",
    output: str = "logits",
    low: float | None = 0.0,
    high: float | None = 1.0,
    mask: str | None = None,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Adaptive adversarial distillation (AdaAD): attack where student and teacher differ most, and agree there.

    Formula: α KL(T(x') ‖ S(x')) + (1 − α) KL(T(x) ‖ S(x)), x' = argmax over ‖x' − x‖ ≤ ε of KL(T(x') ‖ S(x'))

    Args:
        at: name of the attacked input, whose uint8 is read as [0, 1].
        eps: radius of the attack, in units of the input.
        step_size: of the attack, in units of the input.
        steps: of the attack.
        norm: of the ball.
        alpha: share of the attacked term; the terms' weights `clean.weight` and `attacked.weight` start from it.
        student: name of the trained model.
        teacher: name of the frozen model; it is run on the attacked input and cannot be cached.
        output: name of the logits.
        low: smallest input value; None is unbounded.
        high: largest input value; None is unbounded.
        mask: name of a mask of the batch, such as "text.mask": what stands outside is not attacked.
        where: mask(s) of the batch.

    Returns:
        An objective without parameters; it runs both models `steps + 1` times more, in the attack with train=False.

    Topic: adversarial
    Compares: logits on clean and attacked inputs
    Extra: steps + 1 further passes of student and teacher
    Source: Huang et al., Boosting Accuracy and Robustness of Student Models via Adaptive Adversarial Distillation,
        2023, https://openaccess.thecvf.com/content/CVPR2023/html/Huang_Boosting_Accuracy_and_Robustness_of_Student_Models_via_Adaptive_Adversarial_CVPR_2023_paper.html
    Differs: the authors' code takes PyTorch's mean over classes, too: both terms are smaller by their number

    Example:
        >>> robust = adaad("image", eps=4 / 255, steps=3)
    """
    terms = combine(
        clean=term(
            losses.kl, student=f"{student}.{output}", teacher=f"{teacher}.{output}", weight=1 - alpha, where=where
        ),
        attacked=term(losses.kl, student=f"attacked.{output}", teacher=f"guide.{output}", weight=alpha, where=where),
    )

    def apart(views, attacked, guide):
        return losses.kl(output_of(attacked, output, student), output_of(guide, output, teacher))

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
        teacher=teacher,
    )
