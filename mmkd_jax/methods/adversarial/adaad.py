"""Adaptive adversarial distillation (AdaAD)."""

from mmkd_jax import losses
from mmkd_jax.adversarial.attack_values import PGD
from mmkd_jax.adversarial.inner_attack import under_attack
from mmkd_jax.core.objective import Objective, combine, term
from mmkd_jax.core.outputs import output_of
from mmkd_jax.typing import Share
from mmkd_jax.validation import validated


@validated
def adaad(
    at: str,
    *,
    attack: PGD = PGD(),
    alpha: Share = 1.0,
    student: str = "student",
    teacher: str = "teacher",
    output: str = "logits",
    mask: str | None = None,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Adaptive adversarial distillation (AdaAD): match the teacher where the attack makes student and teacher disagree.

    Formula: α KL(T(x') ‖ S(x')) + (1 − α) KL(T(x) ‖ S(x)), x' = argmax over ‖x' − x‖ ≤ ε of KL(T(x') ‖ S(x'))

    Args:
        at: name of the input to attack; uint8 is scaled to [0, 1].
        attack: radius, step size, number of steps, norm and input range of the attack, which starts from normal
            noise × 1e-3.
        alpha: share of the attacked term; sets the initial weights `clean.weight` (1 − α) and `attacked.weight` (α).
        student: name of the trained model.
        teacher: name of the frozen model; it runs on the attacked input and cannot be cached.
        output: name of the logits output.
        mask: name of a batch mask, such as "text.mask"; positions outside it are not attacked.
        where: batch mask(s) of the rows that count.

    Returns:
        A parameter-free objective with `steps + 1` extra passes of both models; the attack runs them with train=False.

    Topic: adversarial
    Compares: logits on clean and attacked inputs
    Extra: steps + 1 further passes of student and teacher
    Source: Huang et al., Boosting Accuracy and Robustness of Student Models via Adaptive Adversarial Distillation,
        2023,
        https://openaccess.thecvf.com/content/CVPR2023/html/Huang_Boosting_Accuracy_and_Robustness_of_Student_Models_via_Adaptive_Adversarial_CVPR_2023_paper.html
    Differs: the authors' code also averages over classes (PyTorch's mean): both terms are smaller by the number of
        classes

    Example:
        >>> robust = adaad("image", attack=PGD(eps=4 / 255, steps=3))
    """
    terms = combine(
        clean=term(
            losses.kl, student=f"{student}.{output}", teacher=f"{teacher}.{output}", weight=1 - alpha, where=where
        ),
        attacked=term(losses.kl, student=f"attacked.{output}", teacher=f"guide.{output}", weight=alpha, where=where),
    )

    def disagreement(outputs, attacked, guide):
        return losses.kl(output_of(attacked, output, student), output_of(guide, output, teacher))

    return under_attack(
        terms,
        disagreement,
        at,
        attack=attack,
        start="normal",
        mask=mask,
        student=student,
        teacher=teacher,
    )
