"""Adversarially robust distillation: under attack the student follows what the teacher says of clean inputs."""

from typing import Literal

from mmkd_jax import losses
from mmkd_jax.arguments import held
from mmkd_jax.losses.number import Count, NotNegative, Positive, Share
from mmkd_jax.methods.attacked import under_attack
from mmkd_jax.objective import Objective, combine, term
from mmkd_jax.views import output_of


@held
def ard(
    at: str,
    *,
    eps: NotNegative = 8 / 255,
    step_size: NotNegative = 2 / 255,
    steps: Count = 10,
    norm: Literal["linf", "l2"] = "linf",
    alpha: Share = 1.0,
    temperature: Positive = 30.0,
    student: str = "student",
    teacher: str = "teacher",
    output: str = "logits",
    labels: str = "batch.label",
    low: float | None = 0.0,
    high: float | None = 1.0,
    mask: str | None = None,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Adversarially robust distillation (ARD): answer under attack as the teacher does without.

    Formula: (1 − α) CE(S(x), y) + α T² KL(T(x) ‖ S(x')), x' = argmax over ‖x' − x‖ ≤ ε of CE(S(x'), y)

    Args:
        at: name of the attacked input, whose uint8 is read as [0, 1]; or of an output of the student, such as
            "hidden.text.0", the embedded tokens.
        eps: radius of the attack, in units of the input.
        step_size: of the attack, in units of the input.
        steps: of the attack.
        norm: of the ball.
        alpha: share of the attacked term; the terms' weights `task.weight` and `attacked.weight` start from it.
        temperature: T, of the attacked term.
        student: name of the trained model.
        teacher: name of the frozen model.
        output: name of the logits.
        labels: path of the labels.
        low: smallest input value; None is unbounded.
        high: largest input value; None is unbounded.
        mask: name of a mask of the batch, such as "text.mask": what stands outside is not attacked.
        where: mask(s) of the batch; rows without a label must be left out, as the attack reads it.

    Returns:
        An objective without parameters; it runs the student `steps + 1` times more, in the attack with train=False.

    Topic: adversarial
    Compares: logits on attacked inputs; labels
    Extra: steps + 1 further passes of the student
    Source: Goldblum et al., Adversarially Robust Distillation, 2020, https://arxiv.org/abs/1905.09747
    Differs: the authors' code takes PyTorch's mean over classes, too: its KL is smaller by their number; its
        attack runs the student as in training

    Example:
        >>> robust = ard("image", eps=4 / 255, steps=3, where="labelled")
    """
    terms = combine(
        task=term(losses.cross_entropy, logits=f"{student}.{output}", labels=labels, weight=1 - alpha, where=where),
        attacked=term(
            losses.kl,
            student=f"attacked.{output}",
            teacher=f"{teacher}.{output}",
            temperature=temperature,
            weight=alpha,
            where=where,
        ),
    )

    def wrong(views, attacked, _):
        return losses.cross_entropy(output_of(attacked, output, student), views[labels])

    return under_attack(
        terms,
        wrong,
        at,
        eps=eps,
        step_size=step_size,
        steps=steps,
        norm=norm,
        low=low,
        high=high,
        mask=mask,
        start="uniform",
        student=student,
    )
