"""Adversarially robust distillation (ARD)."""

from mmkd_jax import losses
from mmkd_jax.adversarial.attack_values import PGD
from mmkd_jax.adversarial.inner_attack import under_attack
from mmkd_jax.core.objective import Objective, combine, filled, term
from mmkd_jax.core.outputs import output_of
from mmkd_jax.typing import Positive, Share
from mmkd_jax.validation import validated


@validated
def ard(
    at: str,
    *,
    attack: PGD = PGD(),
    alpha: Share = 1.0,
    temperature: Positive = 30.0,
    student: str = "student",
    teacher: str = "teacher",
    output: str = "logits",
    labels: str = "batch.label",
    mask: str | None = None,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Adversarially robust distillation (ARD): match the teacher's clean predictions on attacked inputs.

    Formula: (1 − α) CE(S(x), y) + α T² KL(T(x) ‖ S(x')), x' = argmax over ‖x' − x‖ ≤ ε of CE(S(x'), y)

    Args:
        at: name of the input to attack; uint8 is scaled to [0, 1]. Or name of a student output, such as "hidden.text.0"
            (the token embeddings).
        attack: radius, step size, number of steps, norm and input range of the attack, which starts from uniform
            noise within the radius.
        alpha: share of the attacked term; sets the initial weights `task.weight` (1 − α) and `attacked.weight` (α).
        temperature: T of the attacked term.
        student: name of the trained model.
        teacher: name of the frozen model.
        output: name of the logits output.
        labels: path of the class labels.
        mask: name of a batch mask, such as "text.mask"; positions outside it are not attacked.
        where: batch mask(s) of the rows that count; must exclude unlabeled rows, because the attack reads the labels.

    Returns:
        A parameter-free objective with `steps + 1` extra passes of the student; the attack runs it with train=False.

    Topic: adversarial
    Compares: logits on attacked inputs; labels
    Extra: steps + 1 further passes of the student
    Source: Goldblum et al., Adversarially Robust Distillation, 2020, https://arxiv.org/abs/1905.09747
    Differs: the authors' code also averages over classes (PyTorch's mean): its KL is smaller by the number of classes;
        its attack runs the student in training mode

    Example:
        >>> robust = ard("image", attack=PGD(eps=4 / 255, steps=3), where="labelled")
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

    def attack_loss(outputs, attacked, _):
        return losses.cross_entropy(output_of(attacked, output, student), filled(outputs, labels, where))

    return under_attack(
        terms,
        attack_loss,
        at,
        attack=attack,
        start="uniform",
        mask=mask,
        student=student,
    )
