"""Robust soft label adversarial distillation (RSLAD)."""

import jax

from mmkd_jax.adversarial.attack_values import PGD
from mmkd_jax.adversarial.inner_attack import under_attack
from mmkd_jax.core.objective import Objective, combine, term
from mmkd_jax.core.outputs import output_of
from mmkd_jax.losses.logits.kl import kl
from mmkd_jax.typing import Share
from mmkd_jax.validation import validated


@validated
def rslad(
    at: str,
    *,
    attack: PGD = PGD(),
    alpha: Share = 5 / 6,
    student: str = "student",
    teacher: str = "teacher",
    output: str = "logits",
    mask: str | None = None,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Robust soft label distillation (RSLAD): match the teacher's clean predictions on clean and attacked inputs.

    Formula: (1 − α) KL(T(x) ‖ S(x)) + α KL(T(x) ‖ S(x')), x' = argmax over ‖x' − x‖∞ ≤ ε of KL(T(x) ‖ S(x')).

    Args:
        at: name of the input to attack; uint8 is scaled to [0, 1]. Or name of a student output, such as "hidden.text.0"
            (the token embeddings).
        attack: radius, step size, number of steps, norm and input range of the attack, which starts from normal
            noise × 1e-3.
        alpha: share of the attacked term; sets the initial weights `clean.weight` (1 − α) and `attacked.weight` (α).
        student: name of the trained model.
        teacher: name of the frozen model.
        output: name of the logits output.
        mask: name of a batch mask, such as "text.mask"; positions outside it are not attacked.
        where: batch mask(s) of the rows that count.

    Returns:
        A parameter-free objective with `steps + 1` extra passes of the student; the attack runs it with train=False.

    Topic: adversarial
    Compares: logits on clean and attacked inputs
    Extra: steps + 1 further passes of the student
    Source: Zi et al., Revisiting Adversarial Robustness Distillation, 2021, https://arxiv.org/abs/2108.07969
    Differs: the authors' code also averages over classes (PyTorch's mean): both terms are smaller by the number of
        classes

    Example:
        >>> robust = rslad("image", attack=PGD(eps=4 / 255, steps=3))
    """
    soft = f"{teacher}.{output}"
    terms = combine(
        clean=term(kl, student=f"{student}.{output}", teacher=soft, weight=1 - alpha, where=where),
        attacked=term(kl, student=f"attacked.{output}", teacher=soft, weight=alpha, where=where),
    )

    def disagreement(outputs, attacked, _):
        return kl(output_of(attacked, output, student), jax.lax.stop_gradient(outputs[soft]))

    return under_attack(
        terms,
        disagreement,
        at,
        attack=attack,
        start="normal",
        mask=mask,
        student=student,
    )
